"""The studies on tiny networks: what they find, against slow ways; that it is kept, and only where it is theirs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from sharpbench.curvature import difference_diagonal, exact_diagonal, exact_traces, reference_diagonal
from sharpbench.errors import InvalidInput
from sharpbench.files import Workspace
from sharpbench.models import SmallMlp
from sharpbench.replays.minimum_sharpness_2021.studies import DiagonalStudy, TraceStudy
from sharpbench.replays.study import Row, Study, open_network, run_study
from sharpbench.training.recipe import Recipe


@pytest.fixture
def narrow(recipes: tuple[Recipe, ...]) -> tuple[Recipe, ...]:
    """A perceptron of 2,407 parameters, of which the definition differentiates each by itself."""
    return (replace(recipes[0], model=SmallMlp(width=3)),)


def test_traces_against_the_definition(narrow: tuple[Recipe, ...], workspace: Workspace) -> None:
    rows = list(TraceStudy(recipes=narrow, examples=8, entries=6).rows(workspace))
    entries, (network,) = [row for row in rows if row["kind"] == "entry"], [row for row in rows if "trace" in row]
    subject = open_network(narrow[0], workspace).subject(8, dtype=torch.float64, device="cpu")
    diagonal = torch.cat([value.flatten() for value in reference_diagonal(subject).values()])
    assert network["trace"] == pytest.approx(float(diagonal.sum()), rel=1e-10)
    assert (network["parameters"], network["examples"], network["entries"]) == (2407, 8, 6)
    assert len({row["parameter"] for row in entries}) == 6
    for row in entries:
        assert row["naive"] == pytest.approx(float(diagonal[row["parameter"]]), rel=1e-9, abs=1e-15)  # type: ignore[index]
        assert row["exact"] == pytest.approx(row["naive"], rel=1e-9, abs=1e-15)
    assert 0 < network["error_exact"] < 1e-5  # type: ignore[operator]
    assert network["error_paper_double"] < 1e-11  # type: ignore[operator]
    assert min(network["seconds_naive"], network["seconds_exact"]) > 0  # type: ignore[operator]


def test_diagonals_fall_with_samples_and_are_the_running_mean_of_one_stream(
    narrow: tuple[Recipe, ...], workspace: Workspace
) -> None:
    study = DiagonalStudy(recipes=narrow, examples=8, samples=(1, 40))
    rows = {(row["kind"], row["samples"]): row for row in study.rows(workspace)}
    assert set(rows) == {(kind, count) for kind in ("arxiv", "icml") for count in (1, 40)}
    alone = {row["kind"]: row for row in replace(study, samples=(40,)).rows(workspace)}
    for kind in ("arxiv", "icml"):
        few, many = rows[kind, 1], rows[kind, 40]
        assert many["error"] < few["error"]  # type: ignore[operator]
        assert few["value"] is None
        assert many["value"] > 0  # type: ignore[operator]
        assert many["value"] == alone[kind]["value"]
    subject = open_network(narrow[0], workspace).subject(8, dtype=torch.float64, device="cpu")
    exact = torch.cat([value.flatten() for value in exact_diagonal(subject).values()])
    drawn = difference_diagonal(
        subject, samples=40, radius=1e-5, relative=False, generator=torch.Generator().manual_seed(0)
    )
    estimate = torch.cat([value.flatten() for value in drawn.values()])
    assert alone["arxiv"]["error"] == pytest.approx(float((estimate - exact).norm() / exact.norm()))
    assert alone["arxiv"]["negative"] == pytest.approx(float((estimate < 0).double().mean()))


def test_a_subject_has_the_training_examples_without_noise_also_more_than_it_was_trained_on(
    recipes: tuple[Recipe, ...], workspace: Workspace
) -> None:
    clean, noisy = (open_network(replace(recipes[0], label_noise=noise), workspace) for noise in (0.0, 0.5))
    one, other = (each.subject(100, dtype=torch.float32, device="cpu") for each in (clean, noisy))
    assert torch.equal(one.targets, other.targets)
    assert torch.equal(one.inputs, other.inputs)
    assert len(one.inputs) == 100
    assert sum(exact_traces(one).values()) != sum(exact_traces(other).values())
    with pytest.raises(InvalidInput, match="train_size=5000 exceeds the 1437 training examples"):
        clean.subject(5000, dtype=torch.float32, device="cpu")


@dataclass(frozen=True, kw_only=True)
class Counting(Study):
    """Counts how often it is asked."""

    name: ClassVar[str] = "counting"
    asked: ClassVar[list[int]] = []
    step: int = 1

    def rows(self, workspace: Workspace) -> Iterator[Row]:
        """See Study."""
        self.asked.append(self.step)
        yield {"value": float(self.step), "word": "a", "nothing": None}


def test_findings_are_kept_and_measured_again_only_for_another_study(
    recipes: tuple[Recipe, ...], workspace: Workspace, tmp_path: Path
) -> None:
    Counting.asked.clear()
    study = Counting(recipes=recipes)
    for _ in range(2):
        table = run_study(study, workspace, tmp_path / "new")
        assert table.to_dict("records") == [{"value": 1.0, "word": "a", "nothing": None}]
    assert Counting.asked == [1]
    assert run_study(replace(study, step=2), workspace, tmp_path / "new")["value"].tolist() == [2.0]
    run_study(replace(study, recipes=recipes[:1], step=2), workspace, tmp_path / "new")
    assert Counting.asked == [1, 2, 2]
    stored = json.loads((tmp_path / "new" / "counting.json").read_text(encoding="utf-8"))
    assert stored["environment"]["device"] == "cpu"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["counting.json"]


@pytest.mark.parametrize("damage", ["", "{", "[]", "null", '{"key": 1}', "[" * 100_000])
def test_a_damaged_file_is_measured_again(
    recipes: tuple[Recipe, ...], workspace: Workspace, tmp_path: Path, damage: str
) -> None:
    (tmp_path / "counting.json").write_text(damage, encoding="utf-8")
    assert len(run_study(Counting(recipes=recipes), workspace, tmp_path)) == 1


@pytest.mark.parametrize("rows", [[], [1], [{"value": [1]}], {"value": 1}, "text"])
def test_rows_that_are_none_are_measured_again(
    recipes: tuple[Recipe, ...], workspace: Workspace, tmp_path: Path, rows: object
) -> None:
    study = Counting(recipes=recipes)
    content = {"key": study.key(workspace), "rows": rows}
    (tmp_path / "counting.json").write_text(json.dumps(content), encoding="utf-8")
    assert run_study(study, workspace, tmp_path)["value"].tolist() == [1.0]


def test_a_folder_that_cannot_be_written_is_named(
    recipes: tuple[Recipe, ...], workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"cannot write .*counting\.json: .*choose another folder with --output"):
        run_study(Counting(recipes=recipes), workspace, tmp_path / "file")
