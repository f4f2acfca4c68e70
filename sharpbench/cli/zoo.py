"""`sharpbench zoo`: lists, shows, exports and imports the trained networks in the cache."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.command import Command, Group
from sharpbench.cli.options import CacheDirOption, JsonArrayOption, JsonObjectOption, PluginOption
from sharpbench.errors import InvalidInput, shorten, suggest_names

if TYPE_CHECKING:
    from sharpbench.core.installed_plugins import Kind
    from sharpbench.training.zoo import Zoo, ZooEntry

app = typer.Typer(
    cls=Group, no_args_is_help=True, help="List, show, export and import the trained networks in the cache."
)

ModelsFilter = Annotated[
    str | None, typer.Option(help="Only these models: 'small-mlp', with any parameters.", show_default="all")
]
DatasetFilter = Annotated[str | None, typer.Option(help="Only this data set.", show_default="all")]
CohortFilter = Annotated[
    str | None,
    typer.Option(
        help="Only this cohort of --models on --dataset: 'label-noise\\[seeds=10]', or a TOML file.", show_default="all"
    ),
]
FittedFilter = Annotated[
    bool, typer.Option("--fitted", help="Only networks that passed the gate: they fitted their labels.")
]


@dataclass(frozen=True)
class Filter:
    """The networks that the options of `zoo list` and `zoo export` select."""

    models: str | None
    dataset: str | None
    cohort: str | None
    fitted: bool
    plugins: tuple[Path, ...]

    @property
    def words(self) -> list[str]:
        """The options as they are typed."""
        given = {"--models": self.models, "--dataset": self.dataset, "--cohort": self.cohort}
        words = [word for option, value in given.items() if value is not None for word in (option, value)]
        plugins = [word for path in self.plugins for word in ("--plugin", path.name)]
        return [*words, *(["--fitted"] if self.fitted else []), *plugins]

    def select(self, entries: list[ZooEntry]) -> list[ZooEntry]:
        """The entries that pass the filter."""
        from sharpbench.cli.zoo_tables import network_of

        matches = self._predicate()
        return [each for each in entries if matches(each) and (not self.fitted or network_of(each).counts)]

    def _predicate(self) -> Callable[[ZooEntry], bool]:
        if self.cohort is not None:
            return self._cohort_predicate(self.cohort)
        models = None if self.models is None else _recipe_words(self.models, "models", self.plugins)
        datasets = None if self.dataset is None else _recipe_words(self.dataset, "datasets", self.plugins)
        return lambda entry: _has_word(entry, "model", models) and _has_word(entry, "dataset", datasets)

    def _cohort_predicate(self, word: str) -> Callable[[ZooEntry], bool]:
        from sharpbench.core.registry import available
        from sharpbench.core.spec import parse_specs
        from sharpbench.runner.named_parts import parse_dataset
        from sharpbench.runner.plan import select_cohort

        if self.models is None or self.dataset is None:
            raise InvalidInput("--cohort says how networks are trained, not which; also give --models and --dataset")
        models = parse_specs(self.models, available("models", self.plugins).classes, kind="model")
        recipes = select_cohort(word, self.plugins).recipes(models, parse_dataset(self.dataset, self.plugins))
        rows = {tuple(sorted(recipe.row().items())) for recipe in recipes}
        return lambda entry: entry.origin is not None and tuple(sorted(entry.origin.recipe.items())) in rows


def _recipe_words(text: str, kind: Kind, plugins: tuple[Path, ...]) -> set[str]:
    """The words in the form that recipes have. Plain names are not looked up, as loading plugins takes seconds."""
    from sharpbench.core.spec import format_spec, parse_specs, split_specs

    specs = [word for word in split_specs(text) if "[" in word]
    names = {word for word in split_specs(text) if "[" not in word}
    if not specs:
        return names
    from sharpbench.core.registry import available

    classes = available(kind, plugins).classes
    return names | {format_spec(each) for word in specs for each in parse_specs(word, classes, kind=kind[:-1])}


def _has_word(entry: ZooEntry, field: str, words: set[str] | None) -> bool:
    """Whether a word of the recipe is among `words`, with or without its parameters in brackets."""
    if words is None:
        return True
    from sharpbench.cli.zoo_tables import model_name

    word = "" if entry.origin is None else str(entry.origin.recipe.get(field))
    return word in words or model_name(word) in words


def _open_zoo(cache_dir: Path | None) -> Zoo:
    from sharpbench.files import cache_folder
    from sharpbench.training.zoo import Zoo

    return Zoo(cache_folder(cache_dir))


@app.command("list", cls=Command)
def list_(
    models: ModelsFilter = None,
    dataset: DatasetFilter = None,
    cohort: CohortFilter = None,
    fitted: FittedFilter = False,
    networks: Annotated[
        bool, typer.Option("--networks", help="Print one row per network instead of one per population.")
    ] = False,
    as_json: JsonArrayOption = False,
    cache_dir: CacheDirOption = None,
    plugin: PluginOption = None,
) -> None:
    """Count the trained networks by model, data set and device, and how many of them fitted their labels.

    Weights are not read; `zoo show` checks those of one network.
    """
    from rich.console import Console

    from sharpbench.cli.zoo_tables import network_row, rows_json, shelves, show_networks, show_shelves

    found, others = _open_zoo(cache_dir).entries()
    entries = Filter(models, dataset, cohort, fitted, tuple(plugin or ())).select(found)
    if as_json:
        rows = [network_row(entry) for entry in entries]
        typer.echo(rows_json(rows if networks else [each.row() for each in shelves(entries)]))
        return
    (show_networks if networks else show_shelves)(entries, others, Console())


@app.command("show", cls=Command)
def show(
    network: Annotated[
        str, typer.Argument(help="The beginning of its key, or its model if there is only one network of it.")
    ],
    as_json: JsonObjectOption = False,
    cache_dir: CacheDirOption = None,
) -> None:
    """Show one network: its recipe, the result of its training, and whether its weights are sound."""
    from rich.console import Console

    from sharpbench.cli.zoo_tables import network_row, show_network

    zoo = _open_zoo(cache_dir)
    entry = _find_one(zoo.entries()[0], network)
    sound = zoo.read_packed(entry.key) is not None
    if as_json:
        typer.echo(json.dumps({**network_row(entry), "sound": sound}, indent=1))
        return
    show_network(entry, sound, Console())


def _find_one(entries: list[ZooEntry], word: str) -> ZooEntry:
    """The entry whose key begins with `word`, or the only one of that model."""
    found = [entry for entry in entries if word and entry.key.startswith(word)]
    found = found or [entry for entry in entries if _has_word(entry, "model", {word})]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(entry.key[:12] for entry in found[:3])
        raise InvalidInput(f"'{shorten(word)}' names {len(found)} networks ({some}, ...); give more of one key")
    models = {str(entry.origin.recipe.get("model")) for entry in entries if entry.origin is not None}
    hint = suggest_names(word, models) or "`sharpbench zoo list --networks` shows all"
    raise InvalidInput(f"no trained network '{shorten(word)}'; {hint}")


@app.command("export", cls=Command)
def export(
    folder: Annotated[Path, typer.Argument(help="Folder to write; it must be new or empty.")],
    models: ModelsFilter = None,
    dataset: DatasetFilter = None,
    cohort: CohortFilter = None,
    fitted: FittedFilter = False,
    cache_dir: CacheDirOption = None,
    plugin: PluginOption = None,
) -> None:
    """Write networks into a folder that others can load: one safetensors file per network, and a JSON table of them.

    Without filters, all networks of the cache are written. The folder appears complete or not at all.
    """
    from sharpbench.files import user_path
    from sharpbench.training import zoo_transfer

    zoo, selection = _open_zoo(cache_dir), Filter(models, dataset, cohort, fitted, tuple(plugin or ()))
    entries = selection.select(zoo.entries()[0])
    command = shlex.join(["sharpbench", "zoo", "export", "FOLDER", *selection.words])
    zoo_transfer.export_networks(zoo, entries, user_path(folder), command=command)
    typer.echo(f"{len(entries)} networks in {folder}, their table in {folder / zoo_transfer.TABLE_FILE}")


@app.command("import", cls=Command)
def import_(
    folder: Annotated[Path, typer.Argument(help="A folder written by `zoo export`.")],
    cache_dir: CacheDirOption = None,
    plugin: PluginOption = None,
) -> None:
    """Import the networks of an exported folder into the cache, after checking all of it.

    Networks that are in the cache already stay unchanged. The hashes show that no file was damaged or exchanged, not
    who made it: import only from people whom you trust.
    """
    from sharpbench.files import user_path
    from sharpbench.training import zoo_transfer

    done = zoo_transfer.import_networks(_open_zoo(cache_dir), user_path(folder), plugins=plugin or ())
    typer.echo(f"{done.added} networks imported, {done.present} were there already")
