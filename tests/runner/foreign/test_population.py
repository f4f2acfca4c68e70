"""A population that was trained elsewhere, planned and run: values, keys by content, claims, and refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

import sharpbench
from sharpbench import InvalidInput, Record
from sharpbench.analysis.population import group_populations
from sharpbench.cli.foreign_networks import echo_choices
from sharpbench.core.records import iterate_records
from sharpbench.runner.cell_record import with_plan
from sharpbench.runner.foreign.claims import describe_shortfalls
from sharpbench.runner.foreign.plan import PopulationOptions, plan_population
from sharpbench.runner.run import RunOptions, plan_run, run
from tests.foreign_population import make_network, rewrite, write_population

UNCHECKED = PopulationOptions(timing=0, oracle=0, invariance=0, device="cpu")


def run_all(folder: Path, output: Path, measures: str = "parameter-norm") -> list[Record]:
    cells = plan_population(measures, str(folder / "mine.toml"), UNCHECKED)
    options = RunOptions(output=output)
    list(run(plan_run(cells, options), options))
    planned = {cell.key: cell for cell in cells}
    found = {record.key: with_plan(record, planned[record.key]) for record in iterate_records(output / "records.jsonl")}
    return [found[cell.key] for cell in cells]


def keys_of(folder: Path) -> set[str]:
    return {cell.key for cell in plan_population("parameter-norm", str(folder / "mine.toml"), UNCHECKED)}


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, list[Record]]:
    """A population, the output of a run of two measures on it, and the records."""
    folder = tmp_path_factory.mktemp("measured")
    population = write_population(folder / "lab")
    return population, folder / "out", run_all(population, folder / "out", "parameter-norm,gradient-norm")


def test_every_network_is_measured_and_its_outcomes_are_claims(measured: tuple[Path, Path, list[Record]]) -> None:
    population, output, records = measured
    assert [record.status for record in records] == ["ok"] * 12
    arrays = np.load(population / "train.npz")
    inputs, targets = torch.tensor(arrays["inputs"]), torch.tensor(arrays["targets"])
    for number in (0, 5):
        network = make_network(number)
        subject = sharpbench.Subject.from_module(network, inputs, targets)
        norm, gradient = records[2 * number : 2 * number + 2]
        assert gradient.value == pytest.approx(sharpbench.measure("gradient-norm", subject).value, rel=1e-6)
        assert norm.value == pytest.approx(sharpbench.measure("parameter-norm", subject).value, rel=1e-6)
        accuracy = float((network(inputs).argmax(1) == targets).float().mean())
        assert gradient.data["accuracy"] == pytest.approx(accuracy)
        assert gradient.truth["parameter_norm"] == pytest.approx(
            float(torch.cat([value.detach().flatten() for value in network.parameters()]).norm())
        )
    first = records[0]
    assert first.recipe == {"model": "mine", "dataset": "npz:train.npz", "rate": 0.1, "seed": 0.0}
    assert first.truth["gap"] == pytest.approx(0.05)
    assert first.truth["test_accuracy"] == 0.2
    stated = {"claimed": True, "outcome": "train_accuracy - test_accuracy", "table": "networks.csv"}
    assert stated.items() <= first.data.items()
    assert (first.data["weights"], first.data["model"], first.data["test_examples"]) == ("n0.pt", "net.py:make", 100)
    cells = plan_population("parameter-norm,gradient-norm", str(population), UNCHECKED)
    assert plan_run(cells, RunOptions(output=output)).left == ()
    (group,) = group_populations(records)
    assert (group.model, group.dataset, len(group.counted)) == ("mine", "npz:train.npz", 6)


def test_names_of_files_are_harmless_on_a_terminal(population: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = "n\x1b[31m0.pt"
    torch.save({"model_ema": make_network(7).state_dict(), "model": make_network(0).state_dict()}, population / odd)
    rewrite(population / "networks.csv", "n0.pt", odd)
    cells = plan_population("parameter-norm", str(population), UNCHECKED)
    titles = [cell.recipe.title for cell in cells]
    assert titles[0] == "net.py:make at n\\x1b[31m0.pt"
    echo_choices(cells)
    printed = capsys.readouterr().err
    assert "is taken" in printed
    assert "\x1b" not in printed


def test_cells_are_known_by_content(population: Path) -> None:
    before = keys_of(population)
    (population / "n0.pt").rename(population / "renamed.pt")
    safetensors.torch.save_file(make_network(1).state_dict(), population / "n1.safetensors")
    rewrite(population / "networks.csv", "n0.pt", "renamed.pt")
    rewrite(population / "networks.csv", "n1.pt", "n1.safetensors")
    moved = population.with_name("moved")
    population.rename(moved)
    assert keys_of(moved) == before
    torch.save(make_network(9).state_dict(), moved / "n2.pt")
    assert len(keys_of(moved) - before) == 1
    arrays = dict(np.load(moved / "train.npz"))
    np.savez(moved / "train.npz", inputs=arrays["inputs"] + 1, targets=arrays["targets"])
    assert not keys_of(moved) & before


def test_another_network_or_loss_is_another_cell(population: Path) -> None:
    before = keys_of(population)
    (population / "mine.toml").write_text((population / "mine.toml").read_text() + 'parameters = "0.*"\n')
    assert not keys_of(population) & before
    rewrite(population / "mine.toml", 'parameters = "0.*"\n', "")
    assert keys_of(population) == before
    rewrite(population / "net.py", "ReLU", "Tanh")
    assert not keys_of(population) & before


def test_claims_that_change_are_read_anew(population: Path) -> None:
    (record,) = run(plan_population("parameter-norm", str(population), UNCHECKED)[:1])
    rewrite(population / "networks.csv", "n0.pt,0.1,0,0.25,0.2", "n0.pt,0.3,0,0.25,0.1")
    cell = plan_population("parameter-norm", str(population), UNCHECKED)[0]
    assert cell.key == record.key
    found = with_plan(record, cell)
    assert found.recipe["rate"] == 0.3
    assert found.truth["gap"] == pytest.approx(0.15)
    assert found.value == record.value


def test_weights_that_change_during_a_run_are_not_measured(population: Path, tmp_path: Path) -> None:
    cells = plan_population("parameter-norm", str(population), UNCHECKED)
    torch.save(make_network(9).state_dict(), population / "n0.pt")
    first, second = run(cells[:2])
    assert (first.status, second.status) == ("failed", "ok")
    assert "weights changed after the run was planned" in str(first.reason)


def test_a_pattern_names_the_file_of_each_row(population: Path) -> None:
    for number in range(6):
        folder = population / f"rate-{(0.1, 0.2)[number // 3]}[a]" / f"seed{number % 3}"
        folder.mkdir(parents=True)
        (population / f"n{number}.pt").rename(folder / f"best-{number}.pt")
    rewrite(population / "mine.toml", "{file}", "rate-{rate}?a?/seed{seed}/best-*.pt")
    cells = plan_population("parameter-norm", str(population / "mine.toml"), UNCHECKED)
    assert [cell.recipe.data["weights"] for cell in cells][:2] == [  # type: ignore[union-attr]
        "rate-0.1[a]/seed0/best-0.pt",
        "rate-0.1[a]/seed1/best-1.pt",
    ]


def test_examples_are_drawn(population: Path) -> None:
    options = PopulationOptions(timing=0, oracle=0, invariance=0, device="cpu", examples=5)
    record = next(iter(run(plan_population("parameter-norm", str(population), options)[:1])))
    assert (record.status, record.data["examples"], record.data["available"]) == ("ok", 5, 12)
    assert record.data["limit"] == 5


def test_lower_accuracies_than_claimed_are_reported(measured: tuple[Path, Path, list[Record]]) -> None:
    records = measured[-1]
    low, high = ([replace(record, truth={"train_accuracy": claim}) for record in records] for claim in (0.0, 0.999))
    assert describe_shortfalls(low) == ""
    warning = describe_shortfalls(high)
    assert "state an accuracy of 99.9%" in warning
    assert warning.endswith("(5 more networks)")


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("mine.toml", 'table = "networks.csv"', "", r"mine.toml: no 'table'; add table = \"networks.csv\""),
        ("mine.toml", 'model = "net.py:make"', "", "mine.toml: no 'model'; add model"),
        ("mine.toml", "weights", "weight", "mine.toml:4: a population has no 'weight'; did you mean 'weights'"),
        ("mine.toml", "by = [", "by = [1, ", r"mine.toml:7: by=\(1, 'rate'\) is not text"),
        ("mine.toml", "= 100", '= "100"', "mine.toml:8: test_examples=100 is not a whole number"),
        ("mine.toml", "networks.csv", "none.csv", "cannot read '.*none.csv'"),
        ("mine.toml", "networks.csv", ".", "mine.toml:2: folder '.' is not a model zoo"),
        ("mine.toml", "{file}", "{fil}", "has no column 'fil'; did you mean 'file'"),
        ("mine.toml", "{file}", "none-*.pt", r"networks.csv:2: the pattern 'none-\*.pt' matches no file"),
        ("mine.toml", "{file}", "n*.pt", r"networks.csv:2: the pattern '.*' names 6 files \(n0.pt, n1.pt, n2.pt\)"),
        ("mine.toml", "{file}", "n0.pt", "networks.csv:3: 'n0.pt' is the file of .*networks.csv:2 also"),
        ("mine.toml", "{file}", "pretrained", "networks.csv:2: .*net.py:make' has no pretrained weights"),
        ("mine.toml", "net.py:make", "lenett", "networks.csv:2: unknown model 'lenett'; did you mean 'lenet'"),
        ("mine.toml", "npz:", "npx:", "networks.csv:2: unknown dataset 'npx'; did you mean 'npz'"),
        ("mine.toml", "train_accuracy -", "train -", "has no column 'train'"),
        ("mine.toml", '"rate"', '"rat"', "has no column 'rat'; did you mean 'rate'"),
        ("mine.toml", "= 100", '= 100\nloss = "cross"', "loss 'cross' is unknown"),
        ("mine.toml", "= 100", '= 100\ndesign = "x"', "mine.toml: design 'x' is none of designed, random"),
        ("mine.toml", "= 100", '= 100\nloss = "bce"', "networks.csv:2: .*bce"),
        ("mine.toml", "= 100", '= 100\nparameters = "none.*"', "networks.csv:2: .*none"),
        ("networks.csv", "n1.pt", "", "networks.csv:3: no value in column 'file'; name the file of the weights"),
        ("networks.csv", "n1.pt", "n7.pt", "networks.csv:3: there is no file '.*n7.pt'"),
        ("networks.csv", "n1.pt,0.1,1", "n1.pt,0.1,0", "networks.csv:3: the network of .*networks.csv:2 again"),
        ("net.py", "(5, 3)", "(5, 4)", r"networks.csv:2: weights '.*n0.pt' do not fit .* 2.bias \[3\] where .* \[4\]"),
    ],
)
def test_a_population_that_cannot_be_read_is_refused(
    population: Path, file: str, old: str, new: str, message: str
) -> None:
    rewrite(population / file, old, new)
    with pytest.raises(InvalidInput, match=message):
        plan_population("parameter-norm", str(population / "mine.toml"), UNCHECKED)


def test_weights_of_another_row_and_unclear_folders_are_refused(population: Path) -> None:
    torch.save(make_network(0).state_dict(), population / "n1.pt")
    with pytest.raises(InvalidInput, match=r"networks.csv:3: the weights of 'n1.pt' are those of .*networks.csv:2"):
        plan_population("parameter-norm", str(population), UNCHECKED)
    (population / "other.toml").write_text("")
    with pytest.raises(InvalidInput, match=r"holds 2 TOML files \(mine.toml, other.toml\)"):
        plan_population("parameter-norm", str(population), UNCHECKED)
    for name, message in (("net.py", "is not a TOML file"), ("none", "is neither a file nor a folder")):
        with pytest.raises(InvalidInput, match=message):
            plan_population("parameter-norm", str(population / name), UNCHECKED)
    with pytest.raises(InvalidInput, match="examples=0 must be at least 1"):
        plan_population("parameter-norm", str(population), PopulationOptions(examples=0))


@pytest.mark.parametrize("model", ["{code}", "{code}:make", "./{code}"])
def test_a_table_cannot_name_code(population: Path, model: str) -> None:
    marker = population / "executed"
    (population / "evil.py").write_text(f"import pathlib\npathlib.Path({str(marker)!r}).touch()\n")
    lines = (population / "networks.csv").read_text().splitlines()
    word = f"{population}/evil.py" if model == "{code}:make" else f"{population}/evil.py:make"
    rows = [lines[0] + ",code", *(f"{line},{word}" for line in lines[1:])]
    (population / "networks.csv").write_text("\n".join(rows) + "\n")
    rewrite(population / "mine.toml", "net.py:make", model)
    with pytest.raises(InvalidInput, match="names a Python file by a value of the table; only the description may"):
        plan_population("parameter-norm", str(population), UNCHECKED)
    assert not marker.exists()


def test_pickles_that_would_execute_code_are_refused(population: Path) -> None:
    torch.save(make_network(1), population / "n1.pt")
    with pytest.raises(InvalidInput, match=r"networks.csv:3: .*hold more than tensors"):
        plan_population("parameter-norm", str(population), UNCHECKED)
