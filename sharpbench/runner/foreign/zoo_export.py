"""The networks of a folder of `sharpbench zoo export`, as a run measures them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sharpbench.core.spec import format_spec
from sharpbench.errors import InvalidInput
from sharpbench.files import cache_folder, data_folder
from sharpbench.training.examples import LoadedData
from sharpbench.training.recipe import DataSource, Recipe
from sharpbench.training.zoo import Zoo
from sharpbench.training.zoo_transfer import TABLE_FILE, import_networks


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlace:
    """Where the networks of an exported folder go: the cache, the folder of data sets, and plugins that they need."""

    cache_dir: Path | str | None = None
    data_dir: Path | str | None = None
    plugins: Sequence[Path] = ()


@dataclass(frozen=True, slots=True)
class ExportedNetwork:
    """A network with the hash of its data set, the kind of its device, its population and its position in it."""

    recipe: Recipe
    data_sha256: str
    device: str
    population: str
    position: int


def is_zoo_export(folder: Path) -> bool:
    """Whether a folder holds the table that `sharpbench zoo export` writes."""
    return (folder / TABLE_FILE).is_file()


def import_zoo_export(folder: Path, place: ExportPlace, *, device: str | None) -> Iterator[ExportedNetwork]:
    """The networks of a folder, which are put into the cache; those of one model are one population.

    device: the kind that they must have been trained on; None for any.

    Raises InvalidInput as `import_networks`, for networks of another kind of device, and where the data set has another
    content here than where they were trained.
    """
    networks = import_networks(Zoo(cache_folder(place.cache_dir)), folder, plugins=place.plugins).networks
    loaded, hashes = LoadedData(data_folder(place.data_dir)), dict[DataSource, str]()
    positions: Counter[str] = Counter()
    for network in networks:
        recipe = network.recipe
        if device not in (None, network.device):
            raise InvalidInput(
                f"'{folder}': {recipe.title} was trained on {network.device}, which is not the device of this run, "
                f"{device}; choose it by --device"
            )
        source = recipe.data_source
        hashes[source] = hashes.get(source) or loaded.load(recipe).sha256()
        if hashes[source] != network.data_sha256:
            raise InvalidInput(
                f"'{folder}': {recipe.title} was trained on another content of '{format_spec(recipe.dataset)}'; "
                "name the folder of the same data by --data-dir"
            )
        population = format_spec(recipe.model).partition("[")[0]
        yield ExportedNetwork(recipe, network.data_sha256, network.device, population, positions[population])
        positions[population] += 1
