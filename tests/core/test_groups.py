"""Parameters by pattern, and blocks of parameters: parts by block, and measures of each block."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sharpbench import measure, measure_blocks
from sharpbench.core.groups import assign_blocks
from sharpbench.core.measure import NotApplicable
from sharpbench.core.subject import Subject
from sharpbench.curvature import dense_hessian
from sharpbench.curvature.reference import parameter_blocks
from sharpbench.errors import InvalidInput

V, T, D, C, N = 6, 4, 4, 3, 5


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.self_attention = nn.Linear(D, 3 * D)
        self.mlp = nn.Sequential(nn.Linear(D, D), nn.Tanh())

    def forward(self, hidden: Tensor) -> Tensor:
        query, key, value = self.self_attention(self.norm(hidden)).chunk(3, -1)
        return self.mlp(hidden + F.scaled_dot_product_attention(query, key, value))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.block = Block()
        self.output = nn.Linear(D, V, bias=False)
        self.output.weight = self.embed.weight
        self.classifier = nn.Linear(V, C)

    def forward(self, ids: Tensor) -> Tensor:
        return self.classifier(self.output(self.block(self.embed(ids)).mean(1)))  # type: ignore[no-any-return]


def subject(**options: Any) -> Subject:
    torch.manual_seed(0)
    ids = torch.randint(V, (N, T), generator=torch.Generator().manual_seed(1))
    return Subject.from_module(Transformer().double(), ids, torch.arange(N) % C, **options)


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ("classifier.*", ["classifier.weight", "classifier.bias"]),
        (["*attention*", "block.norm.bias"], ["block.norm.bias", "block.self_attention.weight"]),
        ("classifier.bias, *.norm.weight", ["block.norm.weight", "classifier.bias"]),
        (["output.weight"], ["embed.weight"]),
    ],
)
def test_parameters_are_chosen_by_names_and_patterns(parameters: object, names: list[str]) -> None:
    found = subject(parameters=parameters)
    assert set(names) <= set(found.params)
    assert all(name.startswith("block.self_attention") for name in set(found.params) - set(names))
    assert set(found.params) | set(found.constants) == set(subject().params)


@pytest.mark.parametrize(
    ("parameters", "line"),
    [
        ("*lora*", r"parameters=\['\*lora\*'\] are not in the network, which has embed.weight"),
        (["classifier.*", "hed.weight"], r"parameters=\['hed.weight'\] are not in the network"),
        ("", r"parameters=\[''\] are not in the network"),
    ],
)
def test_a_pattern_without_a_parameter_is_refused(parameters: object, line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        subject(parameters=parameters)


def test_kinds_and_layers_of_a_transformer() -> None:
    kinds = assign_blocks(subject(), "kind")
    assert kinds == {
        "embed.weight": "embedding",
        "block.norm.weight": "norm",
        "block.norm.bias": "norm",
        "block.self_attention.weight": "attention",
        "block.self_attention.bias": "attention",
        "block.mlp.0.weight": "mlp",
        "block.mlp.0.bias": "mlp",
        "classifier.weight": "head",
        "classifier.bias": "head",
    }
    assert list(dict.fromkeys(assign_blocks(subject(), "layer").values())) == [
        *("embed", "block.norm", "block.self_attention", "block.mlp.0", "classifier")
    ]
    convolutional = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 3), nn.Linear(3, C))
    images = Subject.from_module(convolutional, torch.randn(2, 1, 4, 4), torch.tensor([0, 1]))
    assert list(assign_blocks(images, "kind").values())[::2] == ["convolution", "norm", "mlp", "head"]
    assert set(assign_blocks(images, lambda name: name[0]).values()) == set("0134")


@pytest.mark.parametrize(
    ("groups", "line"),
    [
        ("depth", "groups='depth' is unknown; use 'layer' or 'kind'"),
        (3, "groups= holds a int; expected 'layer', 'kind', a mapping or a function"),
        (lambda name: {}[name], r"groups= raises KeyError: .* for the parameter '"),
        ({"embed.weight": "first"}, "parameter 'block.norm.weight' has the block None; expected the block's name"),
        (len, "parameter 'embed.weight' has the block 12"),
    ],
)
def test_groups_that_name_no_block_are_refused(groups: Any, line: str) -> None:
    with pytest.raises(InvalidInput, match=line):
        measure("ggn-trace", subject(), groups=groups)


def test_parts_are_summed_by_block() -> None:
    given = subject()
    plain, grouped = (measure("ggn-trace", given, groups=groups) for groups in (None, "kind"))
    assert grouped.value == plain.value
    wanted = plain.parts["block.self_attention.weight"] + plain.parts["block.self_attention.bias"]
    assert grouped.parts["attention"] == pytest.approx(wanted, rel=1e-12)
    assert list(grouped.parts) == ["embedding", "norm", "attention", "mlp", "head"]
    assert "block.mlp.0" in measure(["ggn-trace"], given, groups="layer")["ggn-trace"].parts


def test_measures_of_each_block_are_those_of_the_blocks_of_the_dense_hessian() -> None:
    given = subject()
    hessian, places = dense_hessian(given), parameter_blocks(given)
    blocks = assign_blocks(given, "kind")
    found = measure_blocks("trace,top-eigenvalue[tolerance=1e-9]", given, "kind")
    assert list(found) == ["embedding", "norm", "attention", "mlp", "head"]
    for block, estimates in found.items():
        rows = torch.cat([torch.arange(len(hessian))[places[name]] for name in blocks if blocks[name] == block])
        dense = hessian[rows][:, rows]
        trace, top = estimates.values()
        assert top.value == pytest.approx(float(torch.linalg.eigvalsh(dense)[-1]), rel=1e-7)
        assert trace.value == pytest.approx(float(dense.trace()), abs=6 * (trace.stderr or 0) + 1e-9)
    with pytest.raises(NotApplicable, match="block 'embedding': "):
        measure_blocks("margin", given, "kind")
