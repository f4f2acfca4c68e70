"""Inputs that are trees of tensors: their form, what is refused, loaders, and how a network is called."""

from __future__ import annotations

from collections import UserDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench import measure
from sharpbench.core.batch import (
    count_entries,
    count_examples,
    join_examples,
    named_tensors,
    read_inputs,
    split_examples,
    take_examples,
    unbind_examples,
)
from sharpbench.core.subject import Subject
from sharpbench.curvature import reference_ggn_traces
from sharpbench.errors import InvalidInput

N, T, V, D, C = 7, 5, 11, 4, 3
Pair = namedtuple("Pair", "ids scale")
IDS = torch.arange(N * T).reshape(N, T) % V
SCALE = torch.linspace(0.5, 1.5, N, dtype=torch.float64)[:, None]
TARGETS = torch.arange(N) % C


def tree() -> dict[str, Any]:
    return {"ids": IDS, "more": (SCALE, {"mask": IDS > 3})}


class Reader(nn.Module):
    """Two inputs, integers and numbers, with a buffer."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.table = nn.Parameter(torch.randn(V, D, generator=generator, dtype=torch.float64))
        self.head = nn.Parameter(torch.randn(D, C, generator=generator, dtype=torch.float64))
        self.register_buffer("shift", torch.full((D,), 0.1, dtype=torch.float64))

    def forward(self, ids: Tensor, scale: Tensor) -> Tensor:
        hidden = F.embedding(ids, self.table).mean(1) + self.shift
        return torch.tanh(hidden * scale) @ self.head


def test_a_tree_is_taken_apart_and_put_together() -> None:
    inputs = read_inputs(UserDict(tree()))
    assert list(named_tensors(inputs)) == ["inputs['ids']", "inputs['more'][0]", "inputs['more'][1]['mask']"]
    assert count_examples(inputs) == N
    assert count_entries(inputs) == 2 * T + 1
    again = named_tensors(join_examples(list(split_examples(inputs, 3))))
    assert all(again[path].equal(value) for path, value in named_tensors(inputs).items())
    assert [count_examples(part) for part in split_examples(inputs, 3)] == [3, 3, 1]
    some = named_tensors(take_examples(inputs, torch.tensor([2, 0])))
    assert some["inputs['ids']"].equal(IDS[[2, 0]])
    assert [named_tensors(one)["inputs['more'][0]"].item() for one in unbind_examples(inputs)] == SCALE[:, 0].tolist()
    assert read_inputs(IDS) is IDS
    assert isinstance(read_inputs(Pair(IDS, SCALE)), Pair)
    assert read_inputs([IDS, SCALE])[1] is SCALE  # type: ignore[index]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"ids": IDS, "text": "words"}, r"inputs\['text'\] is a str; expected a tensor, examples first"),
        (
            {"ids": IDS, "past": None},
            r"inputs\['past'\] is a NoneType; expected a tensor, .* leave it out",
        ),
        ((IDS, SCALE.numpy()), r"inputs\[1\] is a ndarray; .* give torch.as_tensor\(inputs\[1\]\)"),
        ({"a": (IDS, {"b": 3})}, r"inputs\['a'\]\[1\]\['b'\] is a int"),
        ({"ids": IDS, "length": torch.tensor(3)}, r"inputs\['length'\] have shape \[\]; expected \[n, ...\]"),
        ({"ids": IDS, "mask": IDS[:4]}, r"inputs\['mask'\] holds 4 examples and inputs\['ids'\] 7"),
        ({}, "inputs are an empty dict"),
        ((IDS[:0], SCALE[:0]), "inputs hold no example"),
        (IDS.to("meta"), r"inputs are not a plain dense tensor \(on the device 'meta'\); give the numbers themselves"),
        ((IDS, SCALE.to_sparse()), r"inputs\[1\] are not a plain dense tensor \(torch.sparse_coo\)"),
        (object(), "inputs are a object; expected a tensor, or a tuple or dictionary of tensors"),
        ({"ids": IDS, "scale": SCALE * float("nan")}, r"inputs are not finite: inputs\['scale'\] holds 7 NaN"),
    ],
)
def test_what_is_not_a_tree_of_examples_is_refused_by_its_path(given: object, line: str) -> None:
    with pytest.raises(InvalidInput, match=line) as raised:
        Subject.from_module(Reader(), given, TARGETS)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("inputs", "forward"),
    [
        ((IDS, SCALE), None),
        ({"ids": IDS, "scale": SCALE}, None),
        (UserDict(ids=IDS, scale=SCALE), None),
        (Pair(IDS, SCALE), lambda model, given: model(given.ids, given.scale)),
        ({0: IDS, 1: SCALE}, lambda model, given: model(given[0], scale=given[1])),
    ],
)
def test_a_module_is_called_by_the_form_of_its_inputs(inputs: object, forward: Callable[..., Any] | None) -> None:
    module = Reader()
    subject = Subject.from_module(module, inputs, TARGETS, forward=forward, batch_size=3)
    assert (subject.n, subject.device.type) == (N, "cpu")
    assert torch.allclose(subject.loss(subject.params), F.cross_entropy(module(IDS, SCALE), TARGETS), rtol=1e-12)
    assert len(subject.graph.inputs) == 2
    assert set(subject.graph.parameters.values()) == {"table", "head"}
    assert set(subject.graph.buffers.values()) == {"shift"}
    assert (
        subject.to(dtype=torch.float32).loss({k: v.float() for k, v in subject.params.items()}).dtype == torch.float32
    )


class Answers(nn.Module):
    """A network that returns its logits inside something."""

    def __init__(self, wrap: Callable[[Tensor], object]) -> None:
        super().__init__()
        self.reader, self.wrap = Reader(), wrap

    def forward(self, ids: Tensor, scale: Tensor) -> object:
        return self.wrap(self.reader(ids, scale))


class Output:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


@pytest.mark.parametrize(
    ("wrap", "line", "chosen"),
    [
        (Output, r"returns a Output; .*forward=lambda model, inputs: model\(\*\*inputs\).logits", "logits"),
        (lambda logits: {"loss": 0, "out": logits}, r"returns a dict; .*model\(\*\*inputs\)\['out'\]", "out"),
        (lambda logits: (logits, 3), r"returns a tuple; .*model\(\*\*inputs\)\[0\]", 0),
    ],
)
def test_outputs_that_are_no_tensor_name_the_line_to_write(
    wrap: Callable[[Tensor], object], line: str, chosen: str | int
) -> None:
    module, inputs = Answers(wrap), {"ids": IDS, "scale": SCALE}
    with pytest.raises(InvalidInput, match=line):
        Subject.from_module(module, inputs, TARGETS)

    def forward(model: nn.Module, given: dict[str, Tensor]) -> Tensor:
        found = model(**given)
        return getattr(found, chosen) if chosen == "logits" else found[chosen]  # type: ignore[no-any-return]

    subject = Subject.from_module(module, inputs, TARGETS, forward=forward)
    wanted = F.cross_entropy(module.reader(IDS, SCALE), TARGETS)
    assert torch.allclose(subject.loss(subject.params), wanted, rtol=1e-12)


def test_examples_that_are_mixed_are_found_in_trees() -> None:
    def forward(model: nn.Module, given: dict[str, Tensor]) -> Tensor:
        return model(given["ids"], given["scale"] - given["scale"].mean())  # type: ignore[no-any-return]

    with pytest.raises(InvalidInput, match="mixes the examples of a batch"):
        Subject.from_module(Reader(), {"ids": IDS, "scale": SCALE}, TARGETS, forward=forward)


def test_a_loader_of_dictionaries_and_of_nested_pairs() -> None:
    whole = Subject.from_module(Reader(), (IDS, SCALE), TARGETS)
    wanted = whole.loss(whole.params)
    parts = [slice(0, 4), slice(4, N)]
    pairs = [((IDS[some], SCALE[some]), TARGETS[some]) for some in parts]
    words = [{"ids": IDS[some], "scale": SCALE[some], "labels": TARGETS[some]} for some in parts]
    other = [UserDict(ids=IDS[some], scale=SCALE[some], y=TARGETS[some]) for some in parts]
    mixed = [words[0], dict(reversed(words[1].items()))]
    for loader, labels in ((pairs, "labels"), (words, "labels"), (mixed, "labels"), (other, "y")):
        subject = Subject.from_loader(Reader(), loader, labels=labels)
        assert torch.allclose(subject.loss(subject.params), wanted, rtol=1e-12)
    assert Subject.from_loader(Reader(), words, limit=5).n == 5


@pytest.mark.parametrize(
    ("loader", "line"),
    [
        ([{"ids": IDS, "y": TARGETS}], "have no 'labels'; they hold ids, y; name it in labels="),
        (
            [(IDS, SCALE, TARGETS)],
            r"gives a tuple; expected pairs \(inputs \[B, ...\], targets \[B\]\).* give \[\(tuple\(batch\[:-1\]\)",
        ),
        ([{"ids": IDS, "labels": 3}], "targets are a int; expected a tensor"),
        ([{"ids": IDS, "labels": TARGETS[:3]}], r"holds 7 inputs and targets of shape \[3\]"),
        (
            [{"ids": IDS, "labels": TARGETS}, {"ids": IDS[:, 1:], "labels": TARGETS}],
            r"different shapes, \[5\] with targets \[\] and \[4\] .*; make them alike, as by padding",
        ),
        ([({"a": IDS}, TARGETS), ({"b": IDS}, TARGETS)], "different shapes"),
    ],
)
def test_loaders_of_another_form_get_one_line(loader: list[Any], line: str) -> None:
    with pytest.raises(InvalidInput, match=line) as raised:
        Subject.from_loader(Reader(), loader)
    assert "\n" not in str(raised.value)


def test_one_number_per_example_is_taken_where_it_is_a_token() -> None:
    table = torch.nn.Embedding(V, C).double()
    subject = Subject.from_module(table, torch.arange(N) % V, TARGETS, batch_size=2)
    wanted = F.cross_entropy(table(torch.arange(N) % V), TARGETS)
    assert torch.allclose(subject.loss(subject.params), wanted, rtol=1e-12)
    assert measure("ggn-trace", subject).value == pytest.approx(sum(reference_ggn_traces(subject).values()), rel=1e-9)
