"""Networks that others trained, as modules with their data: of a published collection or a folder of `zoo export`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

import sharpbench
from sharpbench.core.fields import Scalar
from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Data
from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.files import cache_folder, data_folder, user_path
from sharpbench.leaderboard.collection import find_record_files, name_networks, read_collection
from sharpbench.runner.foreign.zoo_export import ExportPlace, import_zoo_export, is_zoo_export
from sharpbench.training.examples import LoadedData, initial_module
from sharpbench.training.network import TrainedNetwork
from sharpbench.training.network import load_network as load_trained
from sharpbench.training.recipe import DataSource, Recipe, available_parts, network_key, parse_recipe
from sharpbench.training.zoo import Zoo

RESULTS = Path("leaderboard") / "results"
"""The folder of collections in a checkout of the repository."""
MIN_KEY_CHARS = 8
"""Characters of the beginning of a key that name a network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPlace:
    """Where networks are looked for.

    Attributes:
        results: the folder of collections; None is leaderboard/results of the working folder, or of the checkout.
        cache_dir: the folder of trained networks; None is $SHARPBENCH_CACHE, or the user's cache.
        data_dir: the folder of data sets; None is $SHARPBENCH_DATA.
        plugins: Python files with models, data sets and optimisers that the recipes name; they are executed.
    """

    results: Path | str | None = None
    cache_dir: Path | str | None = None
    data_dir: Path | str | None = None
    plugins: Sequence[Path] = ()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PublishedNetwork:
    """A trained network as a module, with its data.

    Attributes:
        name: 'collection/mlp-3'.
        recipe: how it was trained.
        truth: losses, accuracies and gap of these weights.
        published: the same as its collection states them; another machine's rounding may have led to other weights.
        module: the network at its weights, in eval mode on the CPU.
        inputs, targets: its training examples [n, ...] and labels [n], noise included.
        test_inputs, test_targets: the test examples.
    """

    name: str
    recipe: Recipe
    truth: Mapping[str, Scalar]
    published: Mapping[str, Scalar]
    module: nn.Module = field(repr=False)
    inputs: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)
    test_inputs: Tensor = field(repr=False)
    test_targets: Tensor = field(repr=False)
    _trained: TrainedNetwork = field(repr=False)

    def subject(self, *, examples: int | None = None) -> Subject:
        """The network on its first training examples, as measures take it; None: on all of them."""
        return self._trained.subject(self.module, examples=examples, dtype=torch.float32, device="cpu")


@dataclass(frozen=True, slots=True)
class _NamedNetwork:
    """A network that may be in the cache."""

    recipe: Recipe
    data_sha256: str
    device: str
    published: Mapping[str, Scalar]

    @property
    def key(self) -> str:
        """The hash by which the zoo finds it."""
        return network_key(self.recipe, self.data_sha256, self.device)


class PublishedPopulation(Sequence[PublishedNetwork]):
    """The networks of a collection or a folder in their order; each is opened where it is used."""

    def __init__(self, name: str, networks: Mapping[str, _NamedNetwork], place: NetworkPlace) -> None:
        self.name, self.names, self._networks = name, tuple(networks), dict(networks)
        self._zoo, self._loaded = Zoo(cache_folder(place.cache_dir)), LoadedData(data_folder(place.data_dir))
        self._hashes: dict[DataSource, str] = {}

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> PublishedNetwork:  # type: ignore[override]  # one network at a time
        """The network at `index`. Raises InvalidInput as `load_network`."""
        return self.open(self.names[index])

    def __iter__(self) -> Iterator[PublishedNetwork]:
        return map(self.open, self.names)

    def find(self, name: str) -> str:
        """The name of the network that `name`, or the beginning of its key, means; raises InvalidInput for others."""
        if name in self._networks:
            return name
        found = [each for each, network in self._networks.items() if network.key.startswith(name)]
        if len(found) == 1 and len(name) >= MIN_KEY_CHARS:
            return found[0]
        hint = suggest_names(name, self.names) or f"it has {self.names[0]} to {self.names[-1]}"
        raise InvalidInput(f"'{self.name}' has no network '{shorten(name)}'; {hint}")

    def missing(self) -> list[str]:
        """The names of the networks whose weights are not in the cache."""
        return [name for name, each in self._networks.items() if not (self._zoo.folder / each.key).is_dir()]

    def open(self, name: str) -> PublishedNetwork:
        """The network that `name`, or the beginning of its key, means. Raises InvalidInput as `load_network`."""
        name = self.find(name)
        named = self._networks[name]
        data, source = self._loaded.load(named.recipe), named.recipe.data_source
        self._hashes[source] = self._hashes.get(source) or data.sha256()
        if self._hashes[source] != named.data_sha256:
            raise InvalidInput(
                f"'{format_spec(named.recipe.dataset)}' has another content here than where '{self.name}/{name}' was "
                "trained; name the folder of the same data"
            )
        trained = load_trained(named.recipe, data, named.data_sha256, zoo=self._zoo, device=named.device)
        if trained is None:
            raise InvalidInput(self.describe_missing([name]))
        return _open_module(f"{self.name}/{name}", named, trained, data)

    def describe_missing(self, names: Sequence[str]) -> str:
        """One line: whose weights are missing, and what makes them."""
        which = f"network '{names[0]}'" if len(names) == 1 else f"{len(names)} of {len(self)} networks"
        return (
            f"the weights of {which} of '{self.name}' are not in the cache '{self._zoo.folder}'; "
            f"`python benchmarks/populations.py {self.name}` trains them in a checkout of the repository, and "
            "`sharpbench zoo import FOLDER` takes them from a folder of `zoo export`"
        )


def load_population(name: str, place: NetworkPlace | None = None) -> PublishedPopulation:
    """The networks of a published collection, or of a folder that `sharpbench zoo export` wrote.

    Weights of a collection are those of the cache. A folder is checked and put into the cache.

    Args:
        name: the name of a collection such as 'digits-label-noise', or the path of a folder.
        place: where collections, trained networks and data sets are.

    Raises:
        InvalidInput: for an unknown name, a damaged folder, and where weights are missing; then the line says which
            command trains them.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         sharpbench.load_population("nothing", sharpbench.NetworkPlace(results=folder))
    ...     except sharpbench.InvalidInput as error:
    ...         print(error)
    no collection or folder 'nothing'; collections are in a checkout of the repository; or name a folder of `zoo export`
    """
    population = _find_population(name, place or NetworkPlace())
    if missing := population.missing():
        raise InvalidInput(population.describe_missing(missing))
    return population


def load_network(name: str, place: NetworkPlace | None = None) -> PublishedNetwork:
    """A network of a published collection, or of a folder of `zoo export`, as a module with its data and results.

    Args:
        name: 'collection/mlp-3', the fourth network of the model `mlp` in the collection; or 'collection/KEY', with the
            beginning of its key.
        place: where collections, trained networks and data sets are.

    Raises:
        InvalidInput: as `load_population`, and for a network that the population does not have.

    >>> try:
    ...     sharpbench.load_network("mlp-3")
    ... except sharpbench.InvalidInput as error:
    ...     print(error)
    'mlp-3' does not name a network; write 'collection/name', as 'digits-label-noise/mlp-3'
    """
    collection, slash, network = name.rpartition("/")
    if not slash or not collection:
        raise InvalidInput(
            f"'{shorten(name)}' does not name a network; write 'collection/name', as 'digits-label-noise/mlp-3'"
        )
    population = _find_population(collection, place or NetworkPlace())
    return population.open(network)


def _find_population(name: str, place: NetworkPlace) -> PublishedPopulation:
    folder = user_path(name)
    if is_zoo_export(folder):
        where = ExportPlace(cache_dir=place.cache_dir, data_dir=place.data_dir, plugins=place.plugins)
        exported = import_zoo_export(folder, where, device=None)
        named = {
            f"{each.population}-{each.position}": _NamedNetwork(each.recipe, each.data_sha256, each.device, {})
            for each in exported
        }
        return PublishedPopulation(name, named, place)
    files = find_record_files(_results_folder(place))
    if (path := files.get(name)) is None:
        known = sorted(files)
        hint = suggest_names(name, known) or (f"there are {', '.join(known)}" if known else "")
        remedy = hint or "collections are in a checkout of the repository; or name a folder of `zoo export`"
        raise InvalidInput(f"no collection or folder '{shorten(name)}'; {remedy}")
    return PublishedPopulation(name, _name_networks(read_collection(path).records, place), place)


def _results_folder(place: NetworkPlace) -> Path:
    if place.results is not None:
        return user_path(place.results)
    checkout = Path(str(sharpbench.__file__)).parents[1]
    return RESULTS if RESULTS.is_dir() else checkout / RESULTS


def _name_networks(records: Sequence[Record], place: NetworkPlace) -> dict[str, _NamedNetwork]:
    """Name -> network, in the order of the file."""
    offered = available_parts(place.plugins)
    return {
        name: _NamedNetwork(
            parse_recipe(record.recipe, offered), str(record.data["sha256"]), record.device, record.truth
        )
        for name, record in name_networks(records)
    }


def _open_module(name: str, named: _NamedNetwork, trained: TrainedNetwork, data: Data) -> PublishedNetwork:
    module = initial_module(named.recipe, data.shape, data.classes)
    module.load_state_dict(trained.weights)
    truth = trained.result.row()
    return PublishedNetwork(
        name=name,
        recipe=named.recipe,
        truth=truth,
        published=named.published or truth,
        module=module.eval(),
        inputs=trained.inputs,
        targets=trained.targets,
        test_inputs=data.test_inputs,
        test_targets=data.test_targets,
        _trained=trained,
    )
