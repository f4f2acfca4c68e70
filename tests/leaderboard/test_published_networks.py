"""load_network and load_population: published networks as modules with their data, from the cache or a folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sharpbench
from sharpbench import InvalidInput, NetworkPlace, Record
from sharpbench.training.zoo import Zoo
from sharpbench.training.zoo_transfer import export_networks


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """A folder with the collection `tiny` and its cache, and the records."""
    folder = tmp_path_factory.mktemp("published")
    cohort = "label-noise[ratios=2,seeds=1,train_size=8,max_epochs=1]"
    measures = "parameter-norm,margin"
    cells = sharpbench.plan(measures, "small-mlp", cohort=cohort, device="cpu", timing=0, oracle=0, invariance=0)
    records = list(sharpbench.run(cells, cache_dir=folder / "cache"))
    (folder / "results").mkdir()
    (folder / "results" / "tiny.jsonl").write_text(
        "".join(record.to_json() + "\n" for record in records), encoding="utf-8"
    )
    return folder, records


def place_of(folder: Path, cache: str = "cache") -> NetworkPlace:
    return NetworkPlace(results=folder / "results", cache_dir=folder / cache)


def test_a_network_of_a_collection_comes_from_the_cache(trained: tuple[Path, list[Record]]) -> None:
    folder, records = trained
    population = sharpbench.load_population("tiny", place_of(folder))
    assert population.names == ("small-mlp-0", "small-mlp-1")
    first, second = population
    assert (first.name, second.name, len(population)) == ("tiny/small-mlp-0", "tiny/small-mlp-1", 2)
    norms = [record for record in records if record.measure == "parameter-norm"]
    for network, record in zip((first, second), norms, strict=True):
        assert dict(network.truth) == dict(network.published) == dict(record.truth)
        assert sharpbench.measure("parameter-norm", network.subject()).value == record.value
        assert not network.module.training
        for name, inputs, targets in (
            ("train_accuracy", network.inputs, network.targets),
            ("test_accuracy", network.test_inputs, network.test_targets),
        ):
            right = (network.module(inputs).argmax(1) == targets).float().mean()
            assert float(right) == pytest.approx(network.truth[name])
    assert second.recipe.label_noise == 1.0
    assert torch.equal(population[1].inputs, second.inputs)
    (key,) = (entry.key for entry in Zoo(folder / "cache").entries()[0] if entry.result == dict(second.truth))
    assert sharpbench.load_network(f"tiny/{key[:12]}", place_of(folder)).name == "tiny/small-mlp-1"


def test_a_network_of_an_exported_folder(trained: tuple[Path, list[Record]], tmp_path: Path) -> None:
    folder, _ = trained
    zoo = Zoo(folder / "cache")
    export_networks(zoo, zoo.entries()[0], tmp_path / "shared", command="sharpbench zoo export shared")
    network = sharpbench.load_network(f"{tmp_path}/shared/small-mlp-1", NetworkPlace(cache_dir=tmp_path / "mine"))
    known = {each.recipe.seed_key: each for each in sharpbench.load_population("tiny", place_of(folder))}
    same = known[network.recipe.seed_key]
    for name, value in network.module.state_dict().items():
        assert torch.equal(value, same.module.state_dict()[name])
    assert network.published == network.truth == same.truth


def test_what_is_not_there_is_said_in_one_line(trained: tuple[Path, list[Record]]) -> None:
    folder, _ = trained
    empty = place_of(folder, "empty")
    with pytest.raises(InvalidInput, match=r"2 of 2 networks of 'tiny' are not in .*`python benchmarks/populations"):
        sharpbench.load_population("tiny", empty)
    with pytest.raises(InvalidInput, match=r"network 'small-mlp-1' of 'tiny' are not in the cache .*zoo import FOLDER"):
        sharpbench.load_network("tiny/small-mlp-1", empty)
    for name, message in (
        ("tiny", "'tiny' does not name a network; write 'collection/name'"),
        ("tiny/small-mlp-7", "'tiny' has no network 'small-mlp-7'; did you mean"),
        ("tin/small-mlp-0", "no collection or folder 'tin'; did you mean 'tiny'"),
    ):
        with pytest.raises(InvalidInput, match=message):
            sharpbench.load_network(name, place_of(folder))
    with pytest.raises(InvalidInput, match=r"no collection or folder 'x'; collections are in a checkout"):
        sharpbench.load_population("x", NetworkPlace(results=folder / "none"))


def test_the_published_collections_have_these_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InvalidInput, match=r"50 of 50 networks of 'digits-label-noise'.*populations.py digits-label"):
        sharpbench.load_population("digits-label-noise", NetworkPlace(cache_dir=tmp_path))
