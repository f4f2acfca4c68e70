"""Each quirk that docs/peers.md names, reproduced against the installed version: one that is gone is noticed."""

from __future__ import annotations

import copy
import importlib
import math
import warnings
from dataclasses import replace
from types import ModuleType

import pytest
import torch
from sharpbench_peers.references import reference_dominant_eigenvalue
from torch import Tensor, nn

from benchmarks.layers import network
from sharpbench import NotApplicable, Subject
from sharpbench.curvature import dense_ggn, dense_hessian, exact_diagonal, exact_traces
from tests.peers.conftest import peer, seeded, subject


def library(name: str) -> ModuleType:
    """The package itself, with what its import warns of left out."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip(name.partition(".")[0], reason="pip install 'sharpbench[peers]'")
        return importlib.import_module(name)


def value(words: str, on: Subject, seed: int = 0) -> float:
    return peer(words)(on, generator=seeded(seed)).value


def gauss_newton(on: Subject) -> float:
    return float(dense_ggn(on).trace())


def confident(factor: float) -> Subject:
    """The perceptron with its logits times `factor`: sure of itself, and not only of the right classes."""
    on = subject("chain")
    moved = {name: value * factor if name.startswith("2.") else value for name, value in on.params.items()}
    return replace(on, params=moved)


@pytest.fixture
def model() -> nn.Module:
    return copy.deepcopy(subject("chain").module)


BATCH = torch.randn(9, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), torch.arange(9) % 4


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_pyhessian_doubles_where_two_are_made_of_one_model(model: nn.Module) -> None:
    """The gradient with its graph is left in .grad until a product is requested, and the second one is added to it."""
    hessian = library("pyhessian").hessian
    made = [hessian(model, nn.CrossEntropyLoss(), data=BATCH, cuda=False) for _ in range(2)]
    found = []
    for computer in made:
        torch.manual_seed(0)
        found.append(computer.trace(maxIter=1)[0])
    assert math.isclose(found[1], 2 * found[0], rel_tol=1e-12)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_pyhessian_stops_by_luck() -> None:
    """From few products to many, under nothing but other seeds."""
    on = subject("chain", batch_size=9)
    used = [peer("pyhessian-trace")(on, generator=seeded(seed)).probes for seed in range(8)]
    assert max(used) >= 2 * min(used)


def test_pyhessian_stops_at_a_negative_running_mean() -> None:
    """With tolerance=0, which nothing but that can reach, on a Hessian whose samples are of both signs."""
    on = replace(network("sigmoid"), batch_size=6)
    used = [peer("pyhessian-trace[samples=10,tolerance=0]")(on, generator=seeded(seed)).probes for seed in range(20)]
    assert max(used) == 10
    assert min(used) < 10


def test_pyhessians_power_iteration_stops_early() -> None:
    """At the first small change of the value, which its tolerance takes for convergence."""
    on = network("ReLU")
    largest = reference_dominant_eigenvalue(on)
    off = [abs(value("pyhessian-top-eigenvalue", on, seed) / largest - 1) for seed in range(6)]
    assert min(off) > 1e-3  # the tolerance
    assert max(off) > 0.1


def test_hessian_eigenthings_weighs_batches_alike() -> None:
    """Of 9 examples in batches of 4, the last one counts four times as much as the others."""
    on = subject("chain")
    batches = [replace(on, inputs=x, targets=y) for x, y in on.batches]
    each = [value("eigenthings-trace[samples=5]", batch) for batch in batches]
    ragged = value("eigenthings-trace[samples=5]", on)
    whole = value("eigenthings-trace[samples=5]", replace(on, batch_size=9))
    assert math.isclose(ragged, sum(each) / 3, rel_tol=1e-12)
    assert abs(ragged / whole - 1) > 1e-2


def test_hessian_eigenthings_draws_the_same_without_a_seed(model: nn.Module) -> None:
    library_ = library("hessian_eigenthings")
    operator = library_.HessianOperator(model, [BATCH], library_.supervised_loss(nn.CrossEntropyLoss()))
    first, second, other = (
        library_.trace(operator, num_matvecs=3, method="hutchinson", seed=seed).estimate for seed in (None, None, 1)
    )
    assert first == second != other


def test_hessian_eigenthings_rounds_hutchpp_down_to_a_multiple_of_three(model: nn.Module) -> None:
    library_ = library("hessian_eigenthings")
    operator = library_.HessianOperator(model, [BATCH], library_.supervised_loss(nn.CrossEntropyLoss()))
    assert len(library_.trace(operator, num_matvecs=10, method="hutch++", seed=0).samples) == 3


def test_nngeometry_gives_nan_in_float32_on_confident_networks() -> None:
    on = confident(60.0)
    assert math.isclose(value("nngeometry-trace", on), gauss_newton(on), rel_tol=1e-10)
    with pytest.raises(NotApplicable, match="nngeometry gives nan"):
        value("nngeometry-trace", on.to(dtype=torch.float32))
    assert math.isfinite(value("asdl-trace", on.to(dtype=torch.float32)))


def test_nngeometry_gives_nan_in_float64_on_more_confident_ones() -> None:
    on = confident(100.0)
    with pytest.raises(NotApplicable, match="nngeometry gives nan"):
        value("nngeometry-trace", on)
    assert math.isclose(value("asdl-trace", on), gauss_newton(on), rel_tol=1e-10)


def test_nngeometry_needs_the_default_type_of_the_network(model: nn.Module) -> None:
    metrics, objects = library("nngeometry.metrics"), library("nngeometry.object")
    with pytest.raises(RuntimeError, match="same dtype"):
        metrics.FIM(model, BATCH, objects.PMatDiag)


def test_nngeometry_counts_frozen_parameters() -> None:
    """What it says is of all layers."""
    part, whole = network("frozen last layer"), network("ReLU")
    assert math.isclose(value("nngeometry-trace", part), gauss_newton(whole), rel_tol=1e-10)
    assert value("nngeometry-trace", part) > 1.1 * gauss_newton(part)


@pytest.mark.parametrize("words", ["nngeometry-trace", "asdl-trace"])
@pytest.mark.parametrize("name", ["grouped", "depthwise"])
def test_grouped_convolutions_are_too_large(words: str, name: str) -> None:
    on = network(name)
    assert value(words, on) > 1.05 * gauss_newton(on)


def test_nngeometry_raises_for_the_diagonal_of_grouped_convolutions() -> None:
    with pytest.raises(NotApplicable, match="nngeometry raises RuntimeError"):
        peer("nngeometry-trace").diagonal_entries(network("grouped"), generator=seeded())


@pytest.mark.parametrize("name", ["raw parameter", "weight norm"])
def test_nngeometry_leaves_out_what_is_in_no_layer(name: str) -> None:
    on = network(name)
    assert value("nngeometry-trace", on) < 0.99 * gauss_newton(on)


def test_asdl_squares_before_it_sums_on_small_maps() -> None:
    """Where that takes less memory; the bias's part is right."""
    on = network("small maps")
    found = peer("asdl-trace")(on, generator=seeded()).parts
    truth = exact_traces(on)
    assert math.isclose(found["2.bias"], truth["2.bias"], rel_tol=1e-10)
    assert abs(found["2.weight"] / truth["2.weight"] - 1) > 0.05


@pytest.mark.parametrize("name", ["PReLU", "1-d convolution", "transposed convolution", "group norm", "raw parameter"])
def test_asdl_leaves_out_layers_in_silence(name: str) -> None:
    """Its sum is that of the parameters that it knows."""
    on = network(name)
    found = peer("asdl-trace")(on, generator=seeded())
    truth = exact_traces(on)
    assert found.parts.keys() < truth.keys()
    assert math.isclose(found.value, sum(truth[key] for key in found.parts), rel_tol=1e-10)
    assert found.value < 0.999 * sum(truth.values())


def test_asdl_divides_by_its_samples_once_too_often() -> None:
    """With N draws an example, the mean is the Fisher matrix over N: the scaled gradient is squared, then summed."""
    on = subject("chain", batch_size=9)
    measure = peer("asdl-trace[method=monte-carlo,samples=10]")
    drawn = [measure(on, generator=seeded(seed)).value for seed in range(40)]
    assert math.isclose(sum(drawn) / len(drawn), gauss_newton(on) / 10, rel_tol=0.1)


@pytest.mark.parametrize("words", ["backpack-trace[matrix=gauss-newton]", "asdl-trace", "nngeometry-trace"])
def test_circular_padding_is_taken_for_zeros(words: str) -> None:
    on = network("circular padding")
    assert abs(value(words, on) / gauss_newton(on) - 1) > 1e-3


def test_backpack_needs_modules(model: nn.Module) -> None:
    """A network written as functions has no extension; its converter does not know functional ReLU and pools."""
    backpack, extensions = library("backpack"), library("backpack.extensions")
    on = subject("functional")
    refused = {False: (NotImplementedError, "does not have an extension"), True: (AssertionError, "quantity but it is")}
    for converted, (kind, message) in refused.items():
        with warnings.catch_warnings(), backpack.backpack(extensions.DiagGGNExact()):
            warnings.simplefilter("ignore")
            net = backpack.extend(copy.deepcopy(on.module), use_converter=converted)
            loss = backpack.extend(nn.CrossEntropyLoss())
            left = loss(net(on.inputs), on.targets)
            with pytest.raises(kind, match=message):
                left.backward()


def test_backpack_needs_activations_that_are_not_in_place() -> None:
    backpack = library("backpack")
    on = network("in-place ReLU")
    net = backpack.extend(copy.deepcopy(on.module))
    with pytest.raises(RuntimeError, match="is a view and is being modified inplace"):
        net(on.inputs)


def test_backpacks_average_pools_need_the_default_type_of_the_network() -> None:
    backpack, extensions = library("backpack"), library("backpack.extensions")
    on = network("average pool")
    net, loss = backpack.extend(copy.deepcopy(on.module)), backpack.extend(nn.CrossEntropyLoss())
    with warnings.catch_warnings(), backpack.backpack(extensions.DiagGGNExact()):
        warnings.simplefilter("ignore")
        left = loss(net(on.inputs), on.targets)
        with pytest.raises(RuntimeError, match="expected scalar type Double but found Float"):
            left.backward()


def test_backpack_speaks_of_the_mean_over_a_batch() -> None:
    """So that the plain mean over ragged batches is none over examples; the adapter weighs them."""
    on = subject("chain")
    batches = [replace(on, inputs=x, targets=y) for x, y in on.batches]
    each = [value("backpack-trace", batch) for batch in batches]
    assert abs(sum(each) / 3 / value("backpack-trace", on) - 1) > 1e-2


@pytest.mark.parametrize(
    ("words", "name", "message"),
    [
        ("curvlinops-trace[samples=10]", "group norm", "does not support it"),
        ("curvlinops-trace[samples=10]", "unused layer", "curvlinops raises"),
        ("curvlinops-trace[samples=10]", "SiLU", "does not support it"),
        ("curvlinops-trace", "ReLU", "must be less than A's size"),
        ("pyhessian-trace", "unused layer", "PyHessian raises"),
        ("eigenthings-trace", "unused layer", "hessian-eigenthings raises"),
        ("backpack-trace", "GELU", "does not have an extension for Module"),
        ("asdl-trace", "dilated", "asdl raises"),
        ("nngeometry-trace", "PReLU", "I do not know what to do with layer"),
    ],
)
def test_what_they_refuse_they_refuse_aloud(words: str, name: str, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        value(words, network(name))


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph=True")
def test_default_attention_has_no_second_derivative_on_the_cpu() -> None:
    """The adapters have it computed by the back end that has one."""
    on = network("attention")
    net = copy.deepcopy(on.module)
    computer = library("pyhessian").hessian(net, nn.CrossEntropyLoss(), data=(on.inputs, on.targets), cuda=False)
    with pytest.raises(RuntimeError, match="is not implemented"):
        computer.trace(maxIter=1)
    for parameter in net.parameters():
        parameter.grad = None
    assert math.isfinite(value("pyhessian-trace", on))


def test_curvlinops_hessian_of_layer_norm_is_not_symmetric() -> None:
    """torch's forward derivative of a vmapped gradient, which it differentiates, is wrong by the norm's weight.

    The trace is not concerned: the block is off the diagonal.
    """
    on = network("layer norm")
    torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))
    library_, net = library("curvlinops"), copy.deepcopy(on.module)
    parameters, data = list(net.parameters()), list(on.batches)
    operator = library_.HessianLinearOperator(net, nn.CrossEntropyLoss(), parameters, data, check_deterministic=False)
    dense = operator @ torch.eye(on.size, dtype=torch.float64)
    truth = dense_hessian(on)
    assert float((truth - truth.T).abs().max()) < 1e-12
    assert float((dense - dense.T).abs().max()) > 0.05
    assert math.isclose(float(dense.trace()), float(truth.trace()), rel_tol=1e-10)


def _off(found: float, truth: Tensor | float) -> float:
    return abs(found / float(truth) - 1)


def test_the_papers_subtraction_cancels_in_float32_on_confident_networks() -> None:
    """The same network in the same type: three digits are lost by the subtraction, none by the root of the output."""
    on = confident(150.0)
    truth = gauss_newton(on)
    narrow = on.to(dtype=torch.float32)
    ours = sum(float(each.double().sum()) for each in exact_diagonal(narrow).values())
    assert _off(value("paper-trace", on), truth) < 1e-10
    assert _off(value("paper-trace", narrow), truth) > 1e-3 > 100 * _off(ours, truth)


def test_torchs_second_derivative_of_weight_norm_is_wrong() -> None:
    """That of its fused operator by two backward passes: not symmetric, and not that of its formula."""
    generator = torch.Generator().manual_seed(0)
    v, mix = (torch.randn(5, 4, dtype=torch.float64, generator=generator) for _ in range(2))
    g = torch.rand(5, 1, dtype=torch.float64, generator=generator)

    def hessian(fused: bool) -> Tensor:
        given = [v.clone().requires_grad_(), g.clone().requires_grad_()]
        weight = torch._weight_norm(*given) if fused else given[0] * (given[1] / given[0].norm(dim=1, keepdim=True))
        slope = torch.autograd.grad((weight * mix).sin().sum(), given, create_graph=True)
        entries = torch.cat([part.flatten() for part in slope])
        rows = [torch.autograd.grad(entry, given, retain_graph=True) for entry in entries]
        return torch.stack([torch.cat([part.flatten() for part in row]) for row in rows])

    fused, formula = hessian(True), hessian(False)
    assert float((formula - formula.T).abs().max()) < 1e-12
    assert float((fused - fused.T).abs().max()) > 0.1
    assert float((fused - formula).abs().max()) > 0.1


def test_asdl_counts_tokens_as_examples() -> None:
    """The sum over tokens of squares, where the square of the sum is meant."""
    on = network("linear on tokens")
    found, truth = peer("asdl-trace")(on, generator=seeded()).parts, exact_traces(on)
    assert math.isclose(found["b.weight"], truth["b.weight"], rel_tol=1e-10)
    assert found["a.weight"] < 0.9 * truth["a.weight"]
    assert found["a.bias"] < 0.5 * truth["a.bias"]
