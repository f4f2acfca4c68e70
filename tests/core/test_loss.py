"""Criteria: the loss of one example, and what does not fit it."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sharpbench import Subject
from sharpbench.core.loss import CROSS_ENTROPY, MSE, Losses, PerExampleLoss, to_per_example_loss, with_class_axis
from sharpbench.curvature.output_hessian import softmax_root
from sharpbench.errors import InvalidInput

B, C = 5, 3


def logits() -> Tensor:
    return torch.randn(B, C, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 3


def test_cross_entropy_is_minus_the_natural_logarithm_of_the_softmax() -> None:
    targets = torch.tensor([0, 1, 2, 2, 0])
    losses = CROSS_ENTROPY(logits(), targets)
    for row, target, loss in zip(logits().tolist(), targets.tolist(), losses.tolist(), strict=True):
        share = math.exp(row[target]) / sum(math.exp(value) for value in row)
        assert loss == pytest.approx(-math.log(share), rel=1e-12)


def test_mse_is_the_mean_over_the_outputs_of_one_example() -> None:
    targets = logits().flip(0)
    losses = MSE(logits(), targets)
    for row, target, loss in zip(logits().tolist(), targets.tolist(), losses.tolist(), strict=True):
        squares = [(one - other) ** 2 for one, other in zip(row, target, strict=True)]
        assert loss == pytest.approx(sum(squares) / C, rel=1e-12)


def absolute(outputs: Tensor, targets: Tensor) -> Tensor:
    return (outputs - targets).abs().sum(1)


def test_a_criterion_is_named_or_given() -> None:
    assert to_per_example_loss(None) is to_per_example_loss("cross_entropy") is CROSS_ENTROPY
    assert to_per_example_loss("mse") is MSE
    assert to_per_example_loss(MSE) is MSE
    given = to_per_example_loss(absolute)
    assert (given.kind, given.name) == ("custom", "absolute")
    assert torch.equal(given(logits(), torch.zeros(B, C)), logits().abs().sum(1))
    assert to_per_example_loss(torch.nn.CrossEntropyLoss(reduction="none")).name == "CrossEntropyLoss"


@pytest.mark.parametrize("name", ["crossentropy", "CROSS_ENTROPY", "", "mae"])
def test_unknown_losses_are_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"loss '{name}' is unknown; use 'cross_entropy', 'mse', 'bce', a loss of"):
        to_per_example_loss(name)


def test_a_sum_over_examples_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"'CrossEntropyLoss' has reduction='sum'; measures are of a mean over exa"):
        to_per_example_loss(torch.nn.CrossEntropyLoss(reduction="sum"))


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        (
            torch.nn.CrossEntropyLoss(torch.tensor([1.0, -2.0, 0.5])),
            "has -2 in weight=; it must be at least 0 and fini",
        ),
        (torch.nn.NLLLoss(torch.tensor([1.0, math.nan, 0.5])), "has nan in weight=; it must be at least 0"),
        (torch.nn.CrossEntropyLoss(label_smoothing=1.5), "has 1.5 in label_smoothing=; it must be in 0 to 1"),
        (torch.nn.BCEWithLogitsLoss(torch.tensor([-1.0])), "has -1 in weight="),
        (torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor([math.inf])), "has inf in pos_weight="),
        (torch.nn.HuberLoss(delta=0.0), "has 0 in delta=; it must be above 0 and finite"),
        (torch.nn.SmoothL1Loss(beta=-1.0), "has -1 in beta=; it must be at least 0"),
        (torch.nn.GaussianNLLLoss(eps=0.0), "has 0 in eps=; it must be above 0"),
        (
            torch.nn.CrossEntropyLoss,
            r"loss=CrossEntropyLoss is a class; give an object of it, such as CrossEntropyLoss",
        ),
        (3, "the loss is a int; expected a name, a loss of torch.nn, or a callable"),
    ],
)
def test_losses_with_arguments_out_of_range_are_refused(loss: object, line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        to_per_example_loss(loss)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("loss", "line"),
    [
        (
            lambda outputs, targets: outputs @ targets,
            r"does not run on outputs and targets \[2, 3\] of .*: RuntimeError",
        ),
        (lambda outputs, targets: 0.5, "returns a float; expected a tensor of losses"),
        (
            torch.nn.SoftMarginLoss(),
            "'SoftMarginLoss' returns shape .* is taken as torch computes it only for the loss",
        ),
    ],
)
def test_callables_that_raise_or_reduce_are_refused(loss: object, line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        to_per_example_loss(loss).fitted(torch.zeros(1, C), torch.ones(4, C))  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [1, 4])
def test_a_reducing_callable_is_refused_by_name(n: int) -> None:
    with pytest.raises(InvalidInput, match=r"loss 'cross_entropy' returns shape \[\] .* a loss of torch.nn"):
        to_per_example_loss(F.cross_entropy).fitted(torch.zeros(1, C), torch.zeros(n).long())


@pytest.mark.parametrize("n", [1, 4])
def test_a_criterion_that_keeps_a_dimension_is_refused(n: int) -> None:
    def elementwise(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square()

    with pytest.raises(InvalidInput, match=r"'elementwise' returns shape \[2, 3\] for two examples"):
        to_per_example_loss(elementwise).fitted(torch.zeros(1, C), torch.zeros(n, C))


@pytest.mark.parametrize(
    ("criterion", "targets", "message"),
    [
        (CROSS_ENTROPY, torch.tensor([0, 1, 3, 0]), r"target 3 is out of range for a network of 3 outputs; .* 0 to 2"),
        (CROSS_ENTROPY, torch.tensor([0, 1, -1, 0]), "target -1 is out of range"),
        (CROSS_ENTROPY, torch.zeros(4), r"class indices \[n\] of an integer type; got shape \[4\] of torch.float32"),
        (CROSS_ENTROPY, torch.zeros(4, dtype=torch.bool), "of torch.bool"),
        (CROSS_ENTROPY, torch.zeros(4, dtype=torch.complex64), "of torch.complex64"),
        (CROSS_ENTROPY, torch.zeros(4, 1).long(), r"got shape \[4, 1\]"),
        (MSE, torch.zeros(4), r"targets for mse must be \[n, 3\], the shape of the outputs; got \[4\]"),
        (MSE, torch.zeros(4, 1), r"must be \[n, 3\], .* got \[4, 1\]"),
        (MSE, torch.zeros(4, C, 1), r"got \[4, 3, 1\]"),
    ],
)
def test_targets_that_do_not_fit_are_refused(criterion: PerExampleLoss, targets: Tensor, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        criterion.fitted(torch.zeros(1, C), targets)


@pytest.mark.parametrize("shape", [(C,), (2, C, 2), ()])
def test_outputs_have_the_examples_first(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match=r"returns a tensor of shape .* for an example; expected outputs \[B, ...\]"):
        CROSS_ENTROPY.fitted(torch.zeros(shape), torch.zeros(1).long())


def test_what_fits_passes() -> None:
    CROSS_ENTROPY.fitted(torch.zeros(1, C), torch.tensor([0, 1, 2], dtype=torch.int64))
    MSE.fitted(torch.zeros(1, C), torch.zeros(4, C))
    to_per_example_loss(absolute).fitted(torch.zeros(1, C), torch.zeros(4, C))


WEIGHT = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)


@pytest.mark.parametrize(
    "criterion",
    [
        torch.nn.CrossEntropyLoss(weight=WEIGHT, reduction="none"),
        torch.nn.CrossEntropyLoss(weight=WEIGHT, reduction="none", label_smoothing=0.1),
        partial(F.cross_entropy, weight=WEIGHT, reduction="none"),
        lambda outputs, targets: F.nll_loss(outputs.log_softmax(1), targets, WEIGHT, reduction="none"),
    ],
)
def test_class_weights_are_refused_as_torch_divides_by_their_sum(criterion: Losses) -> None:
    with pytest.raises(InvalidInput, match="has class weights: torch's mean divides by the sum of the targets"):
        to_per_example_loss(criterion).fitted(logits()[:1], torch.tensor([0, 1, 2]))


@pytest.mark.parametrize(("index", "target"), [(-100, -100), (2, 2)])
def test_ignored_targets_are_refused_as_torch_does_not_count_them(index: int, target: int) -> None:
    criterion = to_per_example_loss(torch.nn.CrossEntropyLoss(ignore_index=index, reduction="none"))
    message = f"'CrossEntropyLoss' ignores 2 of 5 targets, {index}: torch's mean does not count them"
    with pytest.raises(InvalidInput, match=message):
        criterion.fitted(logits()[:1], torch.tensor([0, 1, target, 1, target]))
    criterion.fitted(logits()[:1], torch.tensor([0, 1, 1]))  # none is there


def test_weights_whose_mean_is_over_examples_are_accepted() -> None:
    classes, shares = torch.tensor([0, 1, 2]), logits()[:3].softmax(1)
    weighted = torch.nn.CrossEntropyLoss(weight=WEIGHT, reduction="none")

    def focal(outputs: Tensor, targets: Tensor) -> Tensor:
        losses = weighted(outputs, targets)
        return (1 - (-losses).exp()).square() * losses

    to_per_example_loss(focal).fitted(logits()[:1], classes)  # a definition of the user's
    to_per_example_loss(weighted).fitted(logits()[:1], shares)  # torch divides by the number of examples
    to_per_example_loss(torch.nn.CrossEntropyLoss(reduction="none")).fitted(logits()[:1], classes)


def test_the_remedy_for_class_weights_gives_torch_s_loss() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, C)).double()
    inputs, targets = torch.randn(7, 4, dtype=torch.float64), torch.arange(7) % C
    scale = WEIGHT / WEIGHT[targets].mean()

    def losses(outputs: Tensor, classes: Tensor) -> Tensor:
        return F.cross_entropy(outputs, classes, reduction="none") * scale[classes]

    subject = Subject.from_module(module, inputs, targets, loss=losses, batch_size=3)
    expected = F.cross_entropy(module(inputs), targets, weight=WEIGHT)
    assert float(subject.loss(subject.params)) == pytest.approx(expected.item(), rel=1e-12)
    gradient = torch.autograd.grad(expected, list(module.parameters()))
    found = torch.func.grad(subject.loss)(subject.params)
    torch.testing.assert_close(list(found.values()), list(gradient), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("gap", [0.0, 1.0, 10.0, 20.0, 30.0, 60.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_derivative_of_cross_entropy_cancels(gap: float, dtype: torch.dtype) -> None:
    outputs = torch.tensor([gap, 0.0, -1.5], dtype=dtype)
    vector = torch.tensor([1.0, 1.25, -0.5], dtype=dtype)

    def loss(values: Tensor, target: int = 0) -> Tensor:
        return CROSS_ENTROPY(values[None], torch.tensor([target]))[0]

    others = torch.tensor([-gap, -gap - 1.5], dtype=torch.float64).exp()
    total = float(others.sum())
    assert float(loss(outputs)) == pytest.approx(math.log1p(total), rel=1e-6 if dtype == torch.float32 else 1e-14)
    rtol = 1e-6 if dtype == torch.float32 else 1e-13
    probabilities = torch.cat((torch.ones(1, dtype=torch.float64), others)) / (1 + total)
    slope = torch.cat((-probabilities[1:].sum(0, keepdim=True), probabilities[1:]))
    torch.testing.assert_close(torch.func.grad(loss)(outputs).double(), slope, rtol=rtol, atol=0)
    root = softmax_root(outputs.double())
    product = root @ (root.T @ vector.double())
    found = torch.func.jvp(torch.func.grad(loss), (outputs,), (vector,))[1]
    torch.testing.assert_close(found.double(), product, rtol=10 * rtol, atol=0)
    leaf = outputs.clone().requires_grad_()
    (plain,) = torch.autograd.grad(loss(leaf), leaf, create_graph=True)
    torch.testing.assert_close(torch.autograd.grad(plain @ vector, leaf)[0].double(), product, rtol=10 * rtol, atol=0)


def test_cross_entropy_has_torchs_values_and_derivatives_at_any_target() -> None:
    outputs = torch.cat((logits(), torch.tensor([[1.0, 1.0, 1.0], [-math.inf, 2.0, 0.5], [700.0, -700.0, 0.0]])))
    targets = torch.tensor([0, 1, 2, 0, 1, 2, 1, 1])
    torch.testing.assert_close(CROSS_ENTROPY(outputs, targets), F.cross_entropy(outputs, targets, reduction="none"))

    def slope(losses: object) -> Tensor:
        result: Tensor = torch.func.grad(lambda values: losses(values, targets).sum())(outputs)  # type: ignore[operator]
        return result

    torch.testing.assert_close(
        slope(CROSS_ENTROPY), slope(lambda values, given: F.cross_entropy(values, given, reduction="none"))
    )


@pytest.mark.parametrize(
    "given", [torch.nn.CrossEntropyLoss(reduction="none"), partial(F.cross_entropy, reduction="none")]
)
def test_torchs_own_cross_entropy_does_not_cancel_either(given: Losses) -> None:
    outputs = torch.tensor([[20.0, 0.0, -1.0]])
    criterion = to_per_example_loss(given)
    slope = torch.func.grad(lambda values: criterion(values, torch.tensor([0])).sum())(outputs)[0]
    wanted = math.exp(-20) + math.exp(-21)
    assert float(slope[0]) == pytest.approx(-wanted / (1 + wanted), rel=1e-6)


LONG_WEIGHT = torch.ones(5)
BINARY = torch.nn.BCEWithLogitsLoss


@pytest.mark.parametrize(
    ("loss", "outputs", "targets", "message"),
    [
        ("cross_entropy", torch.zeros(1), torch.zeros(4).long(), r"needs a class axis: .* \[B\], .* use loss='bce'"),
        (torch.nn.CrossEntropyLoss(LONG_WEIGHT), torch.zeros(1, C), torch.zeros(4).long(), "shape .5. for 3 classes"),
        (
            "cross_entropy",
            torch.zeros(1, 3, 3),
            torch.zeros(4, 3).long(),
            "leave open which axis has the classes; .*-1",
        ),
        (
            "cross_entropy",
            torch.zeros(1, 3, 2),
            torch.zeros(4, 5).long(),
            r"do not fit cross_entropy: expected one tar",
        ),
        ("cross_entropy", torch.zeros(1, C), torch.full((4,), -100), "ignores all 4 targets; at least one must count"),
        ("cross_entropy", torch.zeros(1, C), torch.zeros(4, C), "at least 0 and sum to 1 over the classes"),
        (
            torch.nn.NLLLoss(),
            torch.ones(1, C),
            torch.zeros(4).long(),
            "end the network in log_softmax, or use CrossEntr",
        ),
        (
            torch.nn.CrossEntropyLoss(torch.zeros(C)),
            torch.zeros(1, C),
            torch.zeros(4).long(),
            "weights .* sum to 0; at",
        ),
        ("bce", torch.zeros(1, 1), torch.zeros(4), r"must be \[n, 1\], the shape of the outputs; got \[4\]"),
        ("bce", torch.zeros(1), torch.full((4,), 2.0), "go from 2 to 2; they must lie in 0 to 1"),
        (BINARY(torch.ones(4, 1)), torch.zeros(1, 2), torch.zeros(4, 2), "the same for all examples; give a callable"),
        (
            torch.nn.PoissonNLLLoss(),
            torch.zeros(1, 2),
            -torch.ones(4, 2),
            "go from -1 to -1; they must lie in 0 to inf",
        ),
        (
            "mse",
            torch.zeros(1, 2),
            torch.full((4, 2), math.nan),
            "hold 8 NaN or infinite entries of 8; leave these out",
        ),
        (
            torch.nn.GaussianNLLLoss(),
            torch.zeros(1, 3),
            torch.zeros(4, 1),
            "means and variances, two halves along axis 1",
        ),
        (
            torch.nn.GaussianNLLLoss(),
            -torch.ones(1, 2),
            torch.zeros(4, 1),
            "negative variance; end the network's second",
        ),
    ],
)
def test_losses_that_do_not_fit_are_refused(loss: object, outputs: Tensor, targets: Tensor, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        to_per_example_loss(loss).fitted(outputs, targets)  # type: ignore[arg-type]


def test_losses_of_several_outputs_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'TripletMarginLoss' takes several outputs of a network; give a callable"):
        to_per_example_loss(torch.nn.TripletMarginLoss())


def test_the_class_axis_is_stated_where_shapes_leave_it_open() -> None:
    outputs = torch.randn(4, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    targets = torch.randint(0, 3, (4, 3), generator=torch.Generator().manual_seed(1))
    for axis, wanted in ((1, F.cross_entropy(outputs, targets)), (-1, F.cross_entropy(outputs.mT, targets))):
        loss = with_class_axis("cross_entropy", axis).fitted(outputs[:1], targets)  # type: ignore[arg-type]
        assert float(loss(outputs, targets).mean()) == pytest.approx(float(wanted), rel=1e-12)
    for given, place in (("mse", 1), ("cross_entropy", 2)):
        with pytest.raises(
            InvalidInput, match=f"class axis {place} of '{given}': give a loss over classes, and the ax"
        ):
            with_class_axis(given, place)  # type: ignore[arg-type]
