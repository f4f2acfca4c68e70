"""Explanations, by hand, for every cell of the matrix in which a library differs from the quantity that it claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Disagreement:
    """An explanation. measures: the measures that it covers. networks: the networks on which it shows."""

    kind: Literal["definition", "bug"]
    measures: tuple[str, ...]
    networks: tuple[str, ...]
    why: str

    def covers(self, measure: str, network: str) -> bool:
        return measure.partition("[")[0] in self.measures and network in self.networks


DISAGREEMENTS = (
    Disagreement(
        "bug",
        ("asdl-trace",),
        ("PReLU", "group norm", "1-d convolution", "3-d convolution", "transposed convolution", "raw parameter"),
        "Layers that asdl has no operation for are left out of the sum, with no word of it.",
    ),
    Disagreement(
        "bug",
        ("asdl-trace",),
        ("multihead attention", "LSTM", "GRU"),
        "The same: parameters that lie in no Linear, or in one that is never called as a module, are left out.",
    ),
    Disagreement(
        "bug",
        ("nngeometry-trace",),
        ("raw parameter", "weight norm"),
        "Parameters in no layer of its collection are left out, with no word of it.",
    ),
    Disagreement(
        "definition",
        ("nngeometry-trace",),
        ("frozen first layer", "frozen last layer"),
        "Its collection holds whole layers: parameters that require no gradient are counted too.",
    ),
    Disagreement(
        "bug",
        ("nngeometry-trace", "asdl-trace"),
        ("grouped", "depthwise"),
        "Every output channel is paired with all input channels, not only with those of its group.",
    ),
    Disagreement(
        "bug",
        ("backpack-trace", "nngeometry-trace", "asdl-trace"),
        ("circular padding",),
        "The input is unfolded with zeros around it, whatever the layer pads with.",
    ),
    Disagreement(
        "bug",
        ("asdl-trace",),
        ("small maps",),
        "On small maps of many channels, where that takes less memory, it squares before it sums over positions.",
    ),
    Disagreement(
        "bug",
        ("asdl-trace",),
        ("linear on tokens", "attention", "embedding"),
        "Tokens are taken for examples: it squares before it sums over them.",
    ),
    Disagreement(
        "bug",
        ("paper-trace",),
        ("layer applied twice", "tied weights"),
        "One input and output is kept a layer, and one layer a parameter: of two uses one is counted.",
    ),
    Disagreement(
        "bug",
        ("nngeometry-trace", "asdl-trace"),
        ("layer applied twice",),
        "Every call is squared for itself, and with the last call's input.",
    ),
    Disagreement(
        "bug",
        ("nngeometry-trace", "asdl-trace"),
        ("tied weights",),
        "Every use is squared for itself, without the products of one with the other.",
    ),
    Disagreement(
        "bug",
        ("backpack-trace",),
        ("tied weights",),
        "The result of one use replaces that of the other.",
    ),
    Disagreement(
        "bug",
        ("curvlinops-top-eigenvalue",),
        ("layer norm",),
        "torch's: the forward derivative of a layer norm's vmapped gradient, which curvlinops takes, is wrong in the "
        "block of the norm's weight with the layers before it. That block is off the diagonal: traces are right.",
    ),
    Disagreement(
        "bug",
        (
            "eigenthings-top-eigenvalue",
            "pyhessian-top-eigenvalue",
        ),
        ("weight norm",),
        "torch's: the second derivative of its fused weight norm by two backward passes is wrong, and not symmetric. "
        "The traces of hessian-eigenthings and PyHessian depend on it also; their draws do not show it.",
    ),
    Disagreement(
        "definition",
        ("eigenthings-top-eigenvalue", "pyhessian-top-eigenvalue"),
        ("group norm", "strides and zeros", "depthwise", "layer applied twice", "adaptive pool"),
        "A power iteration between two eigenvalues of nearly equal modulus and opposite signs; PyHessian's stops at "
        "the first small change of the value, long before one of them rules.",
    ),
)
