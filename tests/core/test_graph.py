"""The captured graph: what is in it, that it is the network's own, and how long it is kept."""

from __future__ import annotations

import gc
import sys
import weakref
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from sharpbench import Subject, measure
from sharpbench.core import graph as graph_module
from sharpbench.core.graph import Graph, agreeing_graph, current_graph, run_graph
from sharpbench.curvature.vjp import faithful_graph
from sharpbench.errors import InvalidInput

IN, C = 5, 3


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(IN, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, C)).double()


def examples(n: int = 4) -> Tensor:
    return torch.randn(n, IN, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def capture(module: nn.Module, example: Tensor) -> Graph:
    """The graph of the module, a kept one if there is one."""
    return agreeing_graph(module, example, lambda graph: True)[0]


def execute(graph: Graph, values: dict[str, Tensor], example: Tensor) -> Tensor:
    """The graph's output, node by node, at the given parameters and buffers."""
    known: dict[fx.Node, object] = dict(graph.constants)
    known |= {node: values[name] for node, name in {**graph.parameters, **graph.buffers}.items()}
    (place,) = graph.inputs
    known[place] = example
    for node in graph.nodes:
        arguments, options = fx.map_arg((node.args, node.kwargs), known.__getitem__)  # type: ignore[arg-type]
        known[node] = node.target(*arguments, **options)  # type: ignore[operator]
    (output,) = graph.outputs
    result = known[output]
    assert isinstance(result, Tensor)
    return result


class Odd(nn.Module):
    """Tied weights, a buffer, a constant, a residual, and a parameter that nothing reads."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(IN, IN)
        self.second = nn.Linear(IN, IN)
        self.second.weight = self.first.weight
        self.head = nn.Linear(IN, C, bias=False)
        self.idle = nn.Parameter(torch.ones(2))
        self.register_buffer("shift", torch.arange(IN).double())

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = inputs + self.second(F.gelu(self.first(inputs))) + self.shift
        output: Tensor = self.head(hidden * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0], dtype=torch.float64))
        return output


def test_the_graph_computes_the_network() -> None:
    torch.manual_seed(0)
    module = Odd().double()
    values = {name: value.detach() + 0.1 for name, value in (*module.named_parameters(), *module.named_buffers())}
    graph = capture(module.eval(), examples()[:1])
    for example in examples().split(1):
        expected = torch.func.functional_call(module, values, (example,))
        torch.testing.assert_close(execute(graph, values, example), expected, rtol=1e-13, atol=1e-14)


def test_a_tied_parameter_has_its_first_name_and_an_unused_one_is_not_there() -> None:
    graph = capture(Odd().double().eval(), examples()[:1])
    assert sorted(set(graph.parameters.values())) == ["first.bias", "first.weight", "head.weight", "second.bias"]
    assert set(graph.buffers.values()) == {"shift"}
    assert len(graph.inputs) == len(graph.outputs) == 1
    assert all(node.op == "call_function" for node in graph.nodes)


def test_a_graph_is_captured_once_a_form_of_example(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.dtype] = []
    original = graph_module._capture

    def counted(module: nn.Module, example: Tensor, forward: None) -> Graph:
        calls.append(example.dtype)
        return original(module, example, forward)

    monkeypatch.setattr(graph_module, "_capture", counted)
    module = nn.Sequential(nn.Flatten(), nn.LazyLinear(C)).double().eval()
    module(torch.zeros(1, 2, 3, dtype=torch.float64))
    first = capture(module, torch.zeros(1, 2, 3, dtype=torch.float64))
    assert capture(module, torch.ones(1, 2, 3, dtype=torch.float64)) is first
    assert capture(module, torch.zeros(1, 6, dtype=torch.float64)) is not first
    module.float()
    assert capture(module, torch.zeros(1, 2, 3)) is not first
    assert calls == [torch.float64, torch.float64, torch.float32]
    other = nn.Linear(2, 2).eval()
    assert capture(other, torch.zeros(1, 2)) is not capture(nn.Linear(2, 2).eval(), torch.zeros(1, 2))


def test_a_graph_does_not_keep_its_module_alive() -> None:
    module = network().eval()
    gone = weakref.ref(module)
    capture(module, examples()[:1])
    del module
    gc.collect()
    assert gone() is None


class Branches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(IN, C)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden: Tensor = self.layer(inputs)
        return hidden if float(hidden.sum()) > 0 else -hidden


def test_what_cannot_be_followed_gets_one_line_that_names_the_network() -> None:
    with pytest.raises(InvalidInput, match=r"torch\.export cannot follow Branches: .+") as raised:
        capture(Branches().double().eval(), examples()[:1])
    assert "\n" not in str(raised.value)
    assert len(str(raised.value)) < 400
    with pytest.raises(InvalidInput, match=r"torch\.export cannot follow Linear: "):
        capture(nn.Linear(IN + 1, C).double().eval(), examples()[:1])


def operators(graph: Graph) -> list[str]:
    return [str(node.target) for node in graph.nodes]


@pytest.mark.parametrize("mode", [True, False])
def test_a_subjects_graph_is_of_the_network_in_eval_mode(mode: bool) -> None:
    module = network().train(mode)
    subject = Subject.from_module(module, examples(), torch.zeros(4).long())
    values = {**subject.params, **subject.constants}
    for example in examples().split(1):
        torch.testing.assert_close(
            execute(subject.graph, values, example), subject.apply(subject.params, example), rtol=1e-13, atol=1e-14
        )
    assert module.training is mode
    assert all(part.training is mode for part in module.modules())


def test_a_module_in_training_mode_does_not_leave_a_graph_for_eval_mode() -> None:
    """The first capture must not decide what the next one gets: dropout is not part of a subject."""

    def dropping() -> nn.Module:
        return nn.Sequential(nn.Linear(IN, 4), nn.ReLU(), nn.Dropout(0.5), nn.Linear(4, C)).double()

    module = dropping().train()
    capture(module, examples()[:1])
    subject = Subject.from_module(module, examples(), torch.zeros(4).long())
    assert operators(subject.graph) == operators(capture(dropping().eval(), examples()[:1]))


def test_a_subject_in_another_type_shares_the_graph_of_its_module() -> None:
    subject = Subject.from_module(network(), examples(), torch.zeros(4).long())
    single = subject.to(dtype=torch.float32)
    assert single.graph is subject.graph
    assert replace(subject, batch_size=3).graph is subject.graph


def change_activation(module: nn.Sequential) -> None:
    module[1] = nn.Tanh()


def tie(module: nn.Sequential) -> None:
    module[2].weight = module[0].weight


@pytest.mark.parametrize("change", [change_activation, tie])
def test_a_module_whose_structure_changes_is_captured_anew(change: object) -> None:
    """Otherwise the exact trace of a network with a new activation is, in silence, that of the old one's operators."""
    module = nn.Sequential(nn.Linear(IN, IN), nn.ReLU(), nn.Linear(IN, IN), nn.Linear(IN, C)).double().eval()
    capture(module, examples()[:1])
    change(module)  # type: ignore[operator]
    subject = Subject.from_module(module, examples(), torch.zeros(4).long())
    values = {**subject.params, **subject.constants}
    assert set(subject.graph.parameters.values()) == set(subject.params)
    for example in examples().split(1):
        torch.testing.assert_close(
            execute(subject.graph, values, example), subject.apply(subject.params, example), rtol=1e-13, atol=1e-14
        )


class MakesTensors(nn.Module):
    """Holds a constant and makes a tensor in its forward pass, both on the device of its weights."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(3, 2)
        self.steps = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        places = torch.arange(3, device=self.head.weight.device)
        return self.head(inputs * self.steps + places)


def test_a_graph_runs_on_another_device_than_that_of_its_capture() -> None:
    """A subject on a GPU leaves its module on the CPU; the device `meta` refuses mixtures as a GPU does."""
    module = MakesTensors()
    graph = capture(module, torch.ones(1, 3))
    values = {name: value.detach().to("meta") for name, value in module.named_parameters()}
    found = run_graph(graph, values, torch.ones(1, 3, device="meta"))
    assert {each.device.type for each in found.values()} == {"meta"}
    assert found[graph.outputs[0]].shape == (1, 2)


class FixedNoise(nn.Linear):
    """Adds the same numbers in every call, from a generator of its own."""

    def forward(self, x: Tensor) -> Tensor:
        drawn = torch.randn(2, generator=torch.Generator().manual_seed(3))
        return super().forward(x) + drawn.to(x)


def test_objects_that_export_lifts_out_are_not_followed() -> None:
    # torch 2.9 refuses the generator itself, later versions lift it out
    with pytest.raises(InvalidInput, match=r"torch\.export cannot follow FixedNoise( through|: .*Generator)"):
        capture(FixedNoise(2, 2).eval(), torch.randn(1, 2))


def test_a_failed_export_leaves_no_hook_on_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """As that of torch 2.9 does, which then refuses every buffer that a forward pass assigns."""

    def fail(*_: object) -> None:
        nn.modules.module.register_module_buffer_registration_hook(lambda *_: pytest.fail("the hook is still there"))
        raise RecursionError

    module = network()
    monkeypatch.setattr(torch.export, "export", fail)
    with pytest.raises(InvalidInput, match="cannot follow Sequential"):
        capture(module.eval(), examples(1))
    module.register_buffer("assigned", torch.zeros(1))


def test_a_module_of_token_ids_is_captured_again_in_another_type() -> None:
    """Its examples are integers in either type, and its graph holds casts to the type of its weights."""

    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(5, 4), nn.Linear(4, 3)

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.table(ids).to(self.head.weight.dtype).mean(1))

    torch.manual_seed(0)
    model, ids = Cast(), torch.randint(5, (3, 2))
    before = current_graph(model, ids[:1], ids)
    after = current_graph(model.double(), ids[:1], ids)
    assert after is not before
    assert after.outputs[0].meta["val"].dtype == torch.float64


def test_a_network_that_casts_to_the_type_of_its_weights_is_followed_in_another_type() -> None:
    """torch.export puts an assertion of the type at the capture before each such cast."""

    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(IN, C)

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.layer(inputs.to(self.layer.weight.dtype)).relu()
            return logits

    torch.manual_seed(0)
    single = Subject.from_module(Cast(), examples().float(), torch.arange(4) % C)
    double = single.to(dtype=torch.float64)
    assert faithful_graph(double).nodes
    assert measure("minimum", double).value == pytest.approx(measure("minimum", single).value, rel=1e-5)


def test_a_graph_in_another_type_than_its_constants_is_refused_by_no_raw_error() -> None:
    class Baked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(IN, C)

        def forward(self, inputs: Tensor) -> Tensor:
            logits: Tensor = self.layer(inputs) @ torch.eye(C, dtype=inputs.dtype)
            return logits

    torch.manual_seed(0)
    subject = Subject.from_module(Baked(), examples().float(), torch.arange(4) % C).to(dtype=torch.float64)
    assert subject.graph.nodes
    assert measure("minimum", subject).value <= measure("ggn-trace", subject).value * (1 + 1e-9)


def test_shapes_that_depend_on_values_are_no_graph() -> None:
    class Selecting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(IN, C)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = self.layer(inputs)
            return torch.stack([row[row > 0].sum() * row for row in hidden])

    with pytest.raises(InvalidInput, match="cannot follow Selecting: a shape depends on values"):
        capture(Selecting().double(), examples(1))


def test_a_network_that_export_cannot_follow_is_not_printed(capfd: pytest.CaptureFixture[str]) -> None:
    """torch prints its graph, of as many lines as it has operators, and logs that it finds no code."""

    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(IN, C) for _ in range(2))

        def forward(self, inputs: Tensor) -> Tensor:
            print("its own", file=sys.stderr)
            return torch.stack([self.layers[int(row.argmax()) % 2](row) for row in inputs])

    model = Routed().double()
    with pytest.raises(InvalidInput, match="cannot follow Routed"):
        capture(model, examples(1))
    assert capfd.readouterr() == ("", "its own\n")
    torch.export.export(nn.Linear(IN, C).double(), (examples(1),))
    assert "print" not in vars(sys.modules["torch.export._trace"])


@pytest.mark.parametrize("collecting", [True, False])
@pytest.mark.parametrize("fails", [True, False])
def test_the_collector_of_garbage_waits_for_the_capture_and_is_left_as_it_was(collecting: bool, fails: bool) -> None:
    seen = []

    class Watching(nn.Linear):
        def forward(self, input: Tensor) -> Tensor:
            seen.append(gc.isenabled())
            if fails:
                raise ValueError("no output")
            return super().forward(input)

    before = gc.isenabled()
    try:
        (gc.enable if collecting else gc.disable)()
        if fails:
            with pytest.raises(InvalidInput, match="no output"):
                capture(Watching(2, 2), torch.zeros(1, 2))
        else:
            capture(Watching(2, 2), torch.zeros(1, 2))
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if before else gc.disable)()
    assert seen
    assert not any(seen)
