"""The matrix of agreement: published whole, every disagreement explained, and what it says recomputed."""

from __future__ import annotations

import pytest
import torch
from sharpbench_peers import MEASURES

from benchmarks.agreement import (
    EIGENVALUES,
    PAGE,
    PRECISIONS,
    ROWS,
    TRACES,
    Cell,
    Precision,
    Row,
    cells,
    definition,
    explained,
    page,
    read,
    tables,
)
from benchmarks.disagreements import DISAGREEMENTS
from benchmarks.layers import NETWORKS, network
from benchmarks.suite_layers import ALL_KINDS
from sharpbench import InvalidInput
from sharpbench.curvature import dense_ggn, dense_hessian
from tests.peers.conftest import peer

QUICK = (
    "ggn-trace",
    "paper-trace",
    "backpack-trace",
    "backpack-trace[matrix=gauss-newton]",
    "nngeometry-trace",
    "asdl-trace",
)


OURS = ("trace", "ggn-trace", "top-eigenvalue")


def test_it_is_whole() -> None:
    """Every implementation of a quantity on every judged network, once; no measure of a quantity is forgotten."""
    found = [(one.row, one.dtype, one.measure) for one in read()]
    order = [(row, dtype) for row in ROWS for dtype in PRECISIONS]
    assert found == [(row, dtype, words) for row, dtype in order for words in (*TRACES, *EIGENVALUES)]
    assert len(ALL_KINDS) >= 100
    assert len(NETWORKS) >= 40
    for quantity, words in (("trace", TRACES), ("top-eigenvalue", EIGENVALUES)):
        assert {each.name for each in MEASURES if each.quantity == quantity} <= {one.partition("[")[0] for one in words}


def test_ours_are_right_on_all_of_them() -> None:
    ours = [one for one in read() if one.measure in OURS]
    assert [one for one in ours if one.verdict not in ("right", "gauss-newton")] == []
    assert {one.measure for one in ours if one.verdict == "gauss-newton"} <= {"ggn-trace"}


def test_every_disagreement_is_explained_and_every_explanation_of_one() -> None:
    """Of the layers; of the kinds only the share is published."""
    differing = [one for one in read() if one.verdict == "differs" and one.group == "layers"]
    assert [one for one in differing if explained(one) is None] == []
    for each in DISAGREEMENTS:
        shown = {(one.measure.partition("[")[0], one.network) for one in differing if explained(one) is each}
        assert {name for _, name in shown} == set(each.networks), each
        assert {name for name, _ in shown} == set(each.measures), each


def test_what_is_not_explained_is_marked() -> None:
    """Which the page then shows, and the test above refuses."""
    one = Cell("ReLU", "asdl-trace", "differs", 0.5)
    assert explained(one) is None
    others = [each for each in read() if each.row == one.row and (each.dtype, each.measure) != (one.dtype, one.measure)]
    assert "**+50 %** (?)" in tables([*others, one])


def test_the_page_shows_what_was_published() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, read()) == text


@pytest.mark.parametrize("name", ["grouped", "in-place ReLU", "tanh", "tied weights"])
def test_cells_are_as_published(name: str) -> None:
    for words in QUICK[1:]:
        peer(words)
    published = {one.measure: one for one in read() if (one.row, one.dtype) == (("layers", name), "float64")}
    for one in cells(name, QUICK):
        assert one == published[one.measure]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("row", ROWS, ids="/".join)
@pytest.mark.filterwarnings("ignore")
def test_all_cells_are_as_published(row: Row, dtype: Precision) -> None:
    """What draws has its verdict again, its error to other rounding."""
    for words in (*TRACES, *EIGENVALUES):
        if not words.startswith(("trace", "ggn", "top")):
            peer(words)
    published = {one.measure: one for one in read() if (one.row, one.dtype) == (row, dtype)}
    if not published:
        pytest.skip("not judged yet")
    for one in cells(row[1], group=row[0], dtype=dtype):
        kept = published[one.measure]
        assert one.verdict == kept.verdict, one
        assert one.error == (kept.error and pytest.approx(kept.error, rel=0.02)), one


def test_the_definition_is_the_definition() -> None:
    """Ours goes through torch.func, and shares no code with it; symmetric also where torch's fused operator is not."""
    on = network("tanh")
    hessian, gauss_newton = definition(on)
    torch.testing.assert_close(hessian, dense_hessian(on), rtol=1e-10, atol=1e-13)
    torch.testing.assert_close(gauss_newton, dense_ggn(on), rtol=1e-10, atol=1e-13)
    normed, _ = definition(network("weight norm"))
    torch.testing.assert_close(normed, normed.T, rtol=0, atol=1e-12)


def test_an_unknown_network_is_refused() -> None:
    from benchmarks.agreement import main

    with pytest.raises(InvalidInput, match="no network is called nothing; there are linear alone, ReLU, "):
        main(["nothing"])
