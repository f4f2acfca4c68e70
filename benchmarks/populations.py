"""The populations of leaderboard/results: trained, measured, and put there, collection by collection.

    python benchmarks/populations.py [NAME...] [--work FOLDER] [--workers 2] [--device auto] [--dry-run]
    python benchmarks/populations.py NAME [--work FOLDER] --part FIELD=VALUE,... [--part ...]

MNIST and cifar10-jpeg are read from $SHARPBENCH_DATA; trained networks are kept in $SHARPBENCH_CACHE. What is
interrupted goes on where it stopped. What is published already is not computed again, but for measures of which there
is a newer version: these need the networks' weights, which on another processor come out differently, and records that
contradict each other are not published. --part runs nothing: of an interrupted run it publishes all networks whose
recipes have these values (of several parts, those of any), if all of them are measured, in place of what was published.
`sharpbench publish` makes the pages afterwards. docs/populations.md says what they are and what came out.
"""

from __future__ import annotations

import contextlib
import lzma
import shutil
import subprocess
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from sharpbench.analysis.population import network_key
from sharpbench.cli.exits import EXIT_INTERRUPTED
from sharpbench.core.record import Record
from sharpbench.core.records import FINISHED, RECORDS, merge_records, read_last_records
from sharpbench.core.spec import format_spec, parse_spec, parse_specs, split_specs
from sharpbench.datasets.dataset import Dataset
from sharpbench.errors import InvalidInput
from sharpbench.leaderboard.collection import ConsistencyCheck
from sharpbench.models.model import Model
from sharpbench.runner.plan import select_cohort, select_measures
from sharpbench.training.recipe import RECORDED_FIELDS, Recipe, available_parts, parse_recipe_field

RESULTS = Path(__file__).parents[1] / "leaderboard" / "results"
MAX_PLAIN_BYTES = 5_000_000
"""Larger files of records are compressed."""
CHEAP = (
    "trace,fisher-rao,normalized,minimum,fisher-trace,adaptive-trace,parameter-norm,distance-from-initialisation,"
    "path-norm,spectral-product,frobenius-product,margin,gradient-norm,sam,asam"
)
MANY = (
    "trace,ggn-trace,fisher-rao,normalized,minimum,minimum[scope=unit],fisher-trace,top-eigenvalue,hessian-frobenius,"
    "spectral-density,adaptive-spectral,adaptive-trace,quotient-norm,parameter-norm,distance-from-initialisation,"
    "path-norm,spectral-product,frobenius-product,margin,parameter-count,gradient-norm,sam,asam,adaptive,average,"
    "keskar,relative-flatness,pac-bayes,pac-bayes-flatness"
)
ATTENTION = (
    "ggn-trace,fisher-trace,fisher-rao,parameter-norm,distance-from-initialisation,spectral-product,"
    "frobenius-product,margin,gradient-norm,sam,asam"
)
"""Without those that take the diagonal of the Hessian, minutes for each network where it has a residual."""
TRANSFORMER = f"{ATTENTION},minimum,minimum[scope=unit],minimum[scope=full],normalized,adaptive,relative-flatness"
"""With the symmetries of attention. Too few to enter the headline score, in which `trace` would have none then."""
SYMMETRIES = (
    "ggn-trace,minimum,minimum[scope=unit],minimum[scope=full],normalized,adaptive,geodesic,geodesic[metric=mix],"
    "fisher-trace,fisher-rao,parameter-norm,distance-from-initialisation,margin,gradient-norm,sam,asam"
)
"""Measures that differ in which symmetries of attention they respect, and baselines."""
FOUR_AXES = (
    "hyperparameters[axes=learning_rate+weight_decay+optimizer+train_size,networks=none,"
    "learning_rate=0.02+0.05,weight_decay=1e-5+5e-4,optimizer=sgd+sam,train_size=128+512,max_epochs=600]"
)
SIX_AXES = (
    "hyperparameters[axes=width+depth+learning_rate+batch_size+optimizer+train_size,networks=none,width=20+80,"
    "depth=1+3,learning_rate=0.005+0.01,batch_size=32+128,optimizer=sgd+sam,train_size=128+512,max_epochs=1000]"
)
CONVOLUTIONS = f"{CHEAP},ggn-trace,minimum[scope=unit],top-eigenvalue,relative-flatness,adaptive"
"""Without those that take longest; where all have a value, enough for the headline score."""
PHOTOGRAPHS = "cifar10-jpeg[train_size=5000]"
CNN, RESNET, VIT = "small-cnn[width=32]", "timm:test_resnet[size=32]", "timm:test_vit[size=32]"


def photographs(model: str, measures: str, *, max_epochs: int = 100, **values: str) -> tuple[str, ...]:
    """The run of a network on 5,000 photographs; its axes are the fields with several values, joined by plus signs."""
    axes = "+".join(name for name, value in values.items() if "+" in value)
    fixed = f"networks=none,train_size=5000,label_noise=0,target_loss=0.2,target_accuracy=0.9,max_epochs={max_epochs}"
    given = ",".join(f"{name}={value}" for name, value in values.items())
    options = ("--examples", "1000", "--timing", "0", "--oracle", "0", "--invariance", "0", "--outcomes", "all")
    return model, f"hyperparameters[axes={axes},{fixed},{given}]", measures, PHOTOGRAPHS, *options


FIVE_AXES = {
    "weight_decay": "1e-5+1e-3",
    "batch_size": "32+128",
    "augmentation": "0+0.5",
    "optimizer": "sgd+sam",
}
GPU = "cifar10-jpeg-gpu"
"""The collection that is not among those that run by default: it would take days on a CPU."""
LARGER_TEST = "mnist1d[test_size=10000]"
COLLECTIONS: dict[str, tuple[tuple[str, ...], ...]] = {
    "mnist-label-noise": (
        ("mlp", "label-noise-mnist[seeds=6]", CHEAP, "mnist", "--examples", "1024", "--timing", "0"),
        ("lenet", "label-noise-mnist", CHEAP, "mnist", "--examples", "1024", "--timing", "0"),
    ),
    "mnist-hyperparameters": (("small-mlp", SIX_AXES, MANY, "mnist", "--timing", "0"),),
    "mnist-timm": (
        ("timm:test_resnet[size=32]", "label-noise", f"{CHEAP},ggn-trace", "mnist", "--timing", "0"),
        ("timm:test_vit[size=32]", "label-noise", ATTENTION, "mnist", "--timing", "0"),
    ),
    "mnist-attention": (
        ("timm:test_vit[size=32]", FOUR_AXES, SYMMETRIES, "mnist", "--examples", "128", "--timing", "0"),
    ),
    "mnist1d-thousand": (("mlp-1d", "mnist1d-thousand", MANY, LARGER_TEST, "--timing", "0", "--outcomes", "all"),),
    "mnist1d-thousand-cnn": (("cnn-1d", "mnist1d-thousand", MANY, LARGER_TEST, "--timing", "0", "--outcomes", "all"),),
    "cifar10-jpeg": (
        photographs(CNN, CONVOLUTIONS, learning_rate="0.015+0.03", augmentation="0+0.25", optimizer="sgd+sam"),
        photographs(RESNET, CONVOLUTIONS, learning_rate="0.02+0.05", weight_decay="1e-5+1e-3", batch_size="32+128"),
        photographs(
            VIT, TRANSFORMER, learning_rate="0.0005+0.001", weight_decay="1e-3+1e-1", batch_size="32", optimizer="adamw"
        ),
    ),
    GPU: (
        photographs(CNN, CONVOLUTIONS, max_epochs=600, learning_rate="0.015+0.03", **FIVE_AXES),
        photographs(RESNET, CONVOLUTIONS, max_epochs=600, learning_rate="0.02+0.05", **FIVE_AXES),
        photographs(VIT, TRANSFORMER, max_epochs=600, learning_rate="0.02+0.05", **FIVE_AXES),
    ),
    "digits-label-noise": (("lenet,mlp", "label-noise", CHEAP, "digits"),),
}
"""Name -> runs: models, cohort, measures, data set, options. Only the last is timed: on an idle machine, then."""


def command(run: Sequence[str], output: Path, *, workers: int, device: str) -> list[str]:
    """The command line of one run."""
    models, cohort, measures, dataset, *options = run
    words = ["--models", models, "--cohort", cohort, "--measures", measures, "--dataset", dataset, *options]
    place = ["--threads", "1", "--workers", str(workers), "--device", device, "--output", str(output)]
    return [str(Path(sys.executable).parent / "sharpbench"), "run", *words, *place]


def start_from_published(folder: Path, name: str, results: Path = RESULTS) -> None:
    """Put the published records of a collection into the output folder of its run, unless it has records already."""
    plain, compressed = results / f"{name}.jsonl", results / f"{name}.jsonl.xz"
    if (folder / RECORDS).exists() or not (plain.exists() or compressed.exists()):
        return
    folder.mkdir(parents=True, exist_ok=True)
    begun = folder / f"{RECORDS}.begun"
    try:
        with plain.open("rb") if plain.exists() else lzma.open(compressed) as source, begun.open("wb") as target:
            shutil.copyfileobj(source, target)
    except (lzma.LZMAError, EOFError) as error:
        raise InvalidInput(f"{compressed} is not an intact xz file ({error}); restore it") from None
    begun.replace(folder / RECORDS)


def latest_of_each(records: Iterable[Record]) -> list[Record]:
    """The last record of each measure on each network: a later version of a measure replaces an earlier one."""
    return list({(*sorted(record.recipe.items()), record.label): record for record in records}.values())


def planned_recipes(run: Sequence[str]) -> tuple[Recipe, ...]:
    """The recipes of the networks of a run."""
    parts = available_parts()
    models: list[Model] = parse_specs(run[0], parts[Model], kind="model")
    dataset: Dataset = parse_spec(run[3], parts[Dataset], kind="dataset")
    return select_cohort(run[1]).recipes(models, dataset)


def select_part(records: Sequence[Record], runs: Iterable[Sequence[str]], values: Mapping[str, str]) -> list[Record]:
    """The records of the networks whose recipes have these values, as `Recipe` writes them.

    Raises:
        InvalidInput: unless each such network of the plan has every measure, none of which failed, all on one kind of
            device and with one version of timm. What was finished first is no fair sample of a cohort, which is run in
            the order of its fields; all networks with some values are a smaller cohort.
    """
    offered = available_parts()
    parsed = {name: parse_recipe_field(name, _number_or_text(value), offered) for name, value in values.items()}
    wanted = {
        _as_planned(recipe.row()): {format_spec(measure) for measure in select_measures(run[2])}
        for run in runs
        for recipe in planned_recipes(run)
        if all(getattr(recipe, name) == value for name, value in parsed.items())
    }
    text = ",".join(f"{name}={value}" for name, value in values.items())
    if not wanted:
        raise InvalidInput(f"no planned network has {text}")
    selected = [record for record in records if _as_planned(record.recipe) in wanted]
    trained, finished = defaultdict[Items, set[str]](set), defaultdict[Items, set[str]](set)
    for record in selected:
        planned = _as_planned(record.recipe)
        trained[planned].add(network_key(record))
        if record.status in FINISHED:
            finished[planned].add(record.label)
    missing = sum(not labels <= finished[network] for network, labels in wanted.items())
    if missing:
        raise InvalidInput(f"{missing} of {len(wanted)} networks with {text} lack measures; run them, or name others")
    several = sum(len(keys) > 1 for keys in trained.values())
    if several:
        raise InvalidInput(
            f"{several} of {len(wanted)} networks with {text} were trained on several devices or with several versions "
            "of libraries; run all on one"
        )
    return selected


def _number_or_text(value: str) -> float | str:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(value)
    return value


Items = tuple[tuple[str, object], ...]


def _as_planned(recipe: Mapping[str, object]) -> Items:
    """The recipe without what the installation in which it is trained adds to it, such as the version of timm."""
    return tuple(sorted((name, value) for name, value in recipe.items() if name not in RECORDED_FIELDS))


def publish_records(records: Sequence[Record], name: str, results: Path = RESULTS) -> None:
    """Put the records among the results, compressed where they are large.

    Raises:
        InvalidInput: for records that contradict each other, such as those of a network that was trained twice on
            different processors, or of two versions of a measure. The results are left as they are then.
    """
    consistency = ConsistencyCheck()
    for record in records:
        consistency.check(record, f"{name}, {record.label}")
    results.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{record.to_json()}\n" for record in records).encode()
    small = len(content) <= MAX_PLAIN_BYTES
    path, other = (results / f"{name}.jsonl{suffix}" for suffix in (("", ".xz") if small else (".xz", "")))
    begun = results / f"{name}.begun"
    begun.write_bytes(content if small else lzma.compress(content, preset=6))
    begun.replace(path)
    other.unlink(missing_ok=True)


def _parse_part(text: str) -> dict[str, str]:
    pairs = [each.partition("=") for each in split_specs(text)]
    if not all(name and value for name, _, value in pairs):
        raise ArgumentTypeError(f"'{text}' must be FIELD=VALUE,..., such as learning_rate=0.01,batch_size=32")
    return {name: value for name, _, value in pairs}


def main(arguments: Sequence[str]) -> int:
    """See the module; the largest exit status of the runs."""
    parser = ArgumentParser()
    parser.add_argument("names", nargs="*", default=[name for name in COLLECTIONS if name != GPU])
    parser.add_argument("--work", type=Path, default=Path("populations"))
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--part", metavar="FIELD=VALUE,...", type=_parse_part, action="append")
    chosen = parser.parse_args(arguments)
    if unknown := set(chosen.names) - set(COLLECTIONS):
        parser.error(f"no collection {', '.join(sorted(unknown))}; there are {', '.join(COLLECTIONS)}")
    if chosen.part and (len(chosen.names) != 1 or chosen.dry_run):
        parser.error("--part is of one collection, which is named, and runs nothing: no --dry-run")
    worst = 0
    for name in chosen.names:
        try:
            status = _make_collection(name, chosen)
            if status == EXIT_INTERRUPTED:
                return status
            worst = max(worst, status)
        except InvalidInput as error:
            print(f"error: {name}: {error}", file=sys.stderr)
            worst = max(worst, 2)
        except KeyboardInterrupt:  # while records are merged or published; of the runs `_run` takes care
            return EXIT_INTERRUPTED
    return worst


def _make_collection(name: str, chosen: Namespace) -> int:
    """Run and publish a collection, or publish a part of it; the largest exit status of its runs."""
    runs = COLLECTIONS[name]
    folders = [chosen.work / f"{name}-{number}" for number in range(len(runs))]
    if not chosen.part or any((folder / RECORDS).exists() for folder in folders):
        for folder in folders:
            start_from_published(folder, name)
    if not chosen.part:
        words = [
            command(run, folder, workers=chosen.workers, device=chosen.device)
            for run, folder in zip(runs, folders, strict=True)
        ]
        failed = _run_in_turn([[*each, "--dry-run"] for each in words] if chosen.dry_run else words)
        if failed or chosen.dry_run:
            return failed
    together = chosen.work / name
    merge_records(folders, together)
    records = latest_of_each(read_last_records(together / RECORDS))
    if chosen.part:
        selected = {record.key for part in chosen.part for record in select_part(records, runs, part)}
        records = [record for record in records if record.key in selected]
    publish_records(records, name)
    return 0


def _run_in_turn(commands: Iterable[Sequence[str]]) -> int:
    """The largest exit status of the commands; after one that was interrupted none is begun."""
    worst = 0
    for words in commands:
        status = abs(_run(words))  # below 0: ended by a signal
        if status == EXIT_INTERRUPTED:
            return status
        worst = max(worst, status)
    return worst


def _run(words: Sequence[str]) -> int:
    """The exit status of a command; the negative number of the signal where one ended it.

    Ctrl-C reaches it too; it keeps what it has and ends, and this waits for it. That is EXIT_INTERRUPTED, however the
    command ends: before it is ready for a Ctrl-C the signal itself ends it.
    """
    interrupted = False
    with subprocess.Popen(words) as child:
        while True:
            try:
                status = child.wait()
            except KeyboardInterrupt:
                interrupted = True
            else:
                return EXIT_INTERRUPTED if interrupted else status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
