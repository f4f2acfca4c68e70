"""`sharpbench zoo list|show|export|import`: the trained networks in the cache."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.errors import InvalidInput, near, short

if TYPE_CHECKING:
    from sharpbench.training.zoo import Zoo, ZooEntry

app = typer.Typer(
    no_args_is_help=True, help="Trained networks: what the cache holds, and folders that others can load."
)

Models = Annotated[str | None, typer.Option(help="Of these models alone: 'small-mlp', whatever its fields.")]
Dataset = Annotated[str | None, typer.Option(help="On this data set alone.")]
Cohort = Annotated[str | None, typer.Option(help="Of this cohort alone, of --models on --dataset; as for run.")]
Fitted = Annotated[bool, typer.Option("--fitted", help="Those alone that passed the gate.")]
CacheDir = Annotated[
    Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_CACHE, else the user's cache")
]
Plugin = Annotated[list[Path] | None, typer.Option(help="As for run.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON array of objects.")]


@dataclass(frozen=True)
class Filter:
    """Which networks: what the options of `list` and `export_networks` say."""

    models: str | None
    dataset: str | None
    cohort: str | None
    fitted: bool
    plugins: tuple[Path, ...]

    @property
    def words(self) -> list[str]:
        """The options again."""
        given = {"--models": self.models, "--dataset": self.dataset, "--cohort": self.cohort}
        words = [word for option, value in given.items() if value is not None for word in (option, value)]
        plugins = [word for path in self.plugins for word in ("--plugin", path.name)]
        return [*words, *(["--fitted"] if self.fitted else []), *plugins]

    def of(self, entries: list[ZooEntry]) -> list[ZooEntry]:
        """The entries that are wanted."""
        from sharpbench.cli.zoo_tables import network_of

        wanted = self._wanted()
        return [each for each in entries if wanted(each) and (not self.fitted or network_of(each).counts)]

    def _wanted(self) -> Callable[[ZooEntry], bool]:
        if self.cohort is not None:
            return self._of_cohort(self.cohort)
        models = None if self.models is None else _names(self.models, "models", self.plugins)
        datasets = None if self.dataset is None else _names(self.dataset, "datasets", self.plugins)
        return lambda entry: _is(entry, "model", models) and _is(entry, "dataset", datasets)

    def _of_cohort(self, word: str) -> Callable[[ZooEntry], bool]:
        from sharpbench.cli.options import parse_dataset
        from sharpbench.core.registry import available
        from sharpbench.core.spec import parse_specs
        from sharpbench.runner.plan import select_cohort

        if self.models is None or self.dataset is None:
            raise InvalidInput("--cohort says how networks are trained, not which; give --models and --dataset, too")
        models = parse_specs(self.models, available("models", self.plugins).classes, kind="model")
        recipes = select_cohort(word, self.plugins).recipes(models, parse_dataset(self.dataset, self.plugins))
        rows = {tuple(sorted(recipe.row().items())) for recipe in recipes}
        return lambda entry: entry.origin is not None and tuple(sorted(entry.origin.recipe.items())) in rows


def _names(text: str, kind: str, plugins: tuple[Path, ...]) -> set[str]:
    """Words as recipes have them. Names alone need no look at what is installed, which takes seconds."""
    from sharpbench.core.spec import format_spec, parse_specs, split_specs

    words = split_specs(text)
    if not any("[" in word for word in words):
        return set(words)
    from sharpbench.core.registry import available

    classes = available("models" if kind == "models" else "datasets", plugins).classes
    return {
        format_spec(each) for word in words for each in parse_specs(word, classes, kind=kind[:-1]) if "[" in word
    } | {word for word in words if "[" not in word}


def _is(entry: ZooEntry, field: str, words: set[str] | None) -> bool:
    """Whether a word of the recipe is among `words`, as it stands or without what is in brackets."""
    if words is None:
        return True
    from sharpbench.cli.zoo_tables import bare

    word = "" if entry.origin is None else str(entry.origin.recipe.get(field))
    return word in words or bare(word) in words


def _zoo(cache_dir: Path | None) -> Zoo:
    from sharpbench.files import cache_folder
    from sharpbench.training.zoo import Zoo

    return Zoo(cache_folder(cache_dir))


@app.command("list")
def list_(
    models: Models = None,
    dataset: Dataset = None,
    cohort: Cohort = None,
    fitted: Fitted = False,
    networks: Annotated[bool, typer.Option("--networks", help="A row for each network, not each population.")] = False,
    as_json: Json = False,
    cache_dir: CacheDir = None,
    plugin: Plugin = None,
) -> None:
    """List the trained networks: how many of which model, on which data, and how many fitted.

    Weights are not read: whether they are sound is seen when they are used, or by `show`.
    """
    from rich.console import Console

    from sharpbench.cli.zoo_tables import network_row, rows_json, shelves, show_networks, show_shelves

    found, others = _zoo(cache_dir).entries()
    entries = Filter(models, dataset, cohort, fitted, tuple(plugin or ())).of(found)
    if as_json:
        rows = [network_row(entry) for entry in entries]
        typer.echo(rows_json(rows if networks else [each.row() for each in shelves(entries)]))
        return
    (show_networks if networks else show_shelves)(entries, others, Console())


@app.command("show")
def show(
    network: Annotated[str, typer.Argument(help="The beginning of its key, or the word of its model.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    cache_dir: CacheDir = None,
) -> None:
    """Show one network: its recipe, what came of it, and whether its weights are sound."""

    from rich.console import Console

    from sharpbench.cli.zoo_tables import network_row, show_network

    zoo = _zoo(cache_dir)
    entry = _one(zoo.entries()[0], network)
    sound = zoo.read_packed(entry.key) is not None
    if as_json:
        typer.echo(json.dumps({**network_row(entry), "sound": sound}, indent=1))
        return
    show_network(entry, sound, Console())


def _one(entries: list[ZooEntry], word: str) -> ZooEntry:
    """The entry that a beginning of its key, or the word of its model, names."""
    found = [entry for entry in entries if word and entry.key.startswith(word)]
    found = found or [entry for entry in entries if _is(entry, "model", {word})]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(entry.key[:12] for entry in found[:3])
        raise InvalidInput(f"'{short(word)}' names {len(found)} networks ({some}, ...); give more of one key")
    models = {str(entry.origin.recipe.get("model")) for entry in entries if entry.origin is not None}
    hint = near(word, models) or "`sharpbench zoo list --networks` shows all"
    raise InvalidInput(f"no trained network '{short(word)}'; {hint}")


@app.command("export")
def export(
    folder: Annotated[Path, typer.Argument(help="A new folder.")],
    models: Models = None,
    dataset: Dataset = None,
    cohort: Cohort = None,
    fitted: Fitted = False,
    cache_dir: CacheDir = None,
    plugin: Plugin = None,
) -> None:
    """Write networks into a folder that others can load: a safetensors file each, and one JSON table of them.

    Without filters, all networks of the cache. The folder appears complete or not at all.
    """
    from sharpbench.files import user_path
    from sharpbench.training import zoo_transfer

    zoo, wanted = _zoo(cache_dir), Filter(models, dataset, cohort, fitted, tuple(plugin or ()))
    entries = wanted.of(zoo.entries()[0])
    command = shlex.join(["sharpbench", "zoo", "export", "FOLDER", *wanted.words])
    zoo_transfer.export_networks(zoo, entries, user_path(folder), command=command)
    typer.echo(f"{len(entries)} networks in {folder}, their table in {folder / zoo_transfer.TABLE_FILE}")


@app.command("import")
def import_(
    folder: Annotated[Path, typer.Argument(help="A folder that `zoo export` has made.")],
    cache_dir: CacheDir = None,
    plugin: Plugin = None,
) -> None:
    """Take the networks of an exported folder into the cache, after all of it has been checked.

    What is there already stays as it is. Hashes say that nothing was damaged or exchanged on the way, not who made
    the networks: import from people whom you trust.
    """
    from sharpbench.files import user_path
    from sharpbench.training import zoo_transfer

    done = zoo_transfer.import_networks(_zoo(cache_dir), user_path(folder), plugins=plugin or ())
    typer.echo(f"{done.added} networks imported, {done.present} were there already")
