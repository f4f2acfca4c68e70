"""plan(): specs and objects to cells; everything that will run is checked before anything runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, Unpack

from sharpbench.core.fields import choose_options, is_scalar
from sharpbench.core.installed_plugins import Kind
from sharpbench.core.measure import Measure
from sharpbench.core.registry import available
from sharpbench.core.spec import format_spec, parse_spec, parse_specs, split_specs, to_config
from sharpbench.core.user_functions import FILE_AND_FUNCTION
from sharpbench.datasets.dataset import Data, Dataset, refusing_load_errors
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import data_folder
from sharpbench.models.model import Model
from sharpbench.runner.cell import Cell
from sharpbench.runner.plan_checks import check_examples, check_recipes
from sharpbench.runner.plan_options import PlanKeywords, PlanOptions
from sharpbench.training.cohorts import SUFFIX, read_cohort
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.examples import load_data
from sharpbench.training.optimizers import Optimizer
from sharpbench.training.outcomes import OUTCOMES, select_outcomes
from sharpbench.training.recipe import DataSource, Recipe, available_parts

T = TypeVar("T")

BASE_CLASSES: dict[Kind, type] = {
    "measures": Measure,
    "models": Model,
    "datasets": Dataset,
    "optimizers": Optimizer,
    "cohorts": Cohort,
}


def plan(
    measures: str | Sequence[Measure],
    models: str | Sequence[Model],
    options: PlanOptions | None = None,
    *,
    dataset: str | Dataset = "digits",
    cohort: str | Cohort = "label-noise",
    outcomes: str | Sequence[str] = "gap",
    **keywords: Unpack[PlanKeywords],
) -> tuple[Cell, ...]:
    """The cells of a run: every measure on every network of the cohort, network by network.

    Measures, models, data set and cohort are objects or specs such as 'minimum,normalized[diagonal=icml]'; a cohort
    may also be the path of a TOML file. What is named twice is planned once. The data set is loaded, as its content is
    part of every key.

    Args:
        measures: a comma-separated spec, or objects.
        models: a comma-separated spec, or objects.
        options: how the networks are measured.
        dataset: where the examples come from.
        cohort: which networks are trained.
        outcomes: what is found of each network in addition to its training result, as a comma-separated text or names;
            'all' is every outcome that the data have.
        keywords: the fields of PlanOptions, instead of `options`.

    Raises:
        InvalidInput: for names, parameters and numbers that do not exist or do not fit together, and for options that
            are given twice.

    >>> cells = sharpbench.plan("trace", "small-mlp", cohort="label-noise[ratios=2,seeds=1]")
    >>> [cell.recipe.label_noise for cell in cells]
    [0.0, 1.0]
    """
    chosen = choose_options(PlanOptions, options, keywords)
    wanted = select_measures(measures, chosen.plugins)
    family = select_cohort(cohort, chosen.plugins)
    selected = select_recipes(models, dataset=dataset, cohort=family, data_dir=chosen.data_dir, plugins=chosen.plugins)
    for recipes, tensors in selected.by_source():
        check_examples(recipes, tensors, chosen.examples)
    wanted_outcomes = select_outcomes(outcomes, tuple(selected.data.values()))
    added = tuple(name for name in wanted_outcomes if not OUTCOMES[name].in_truth)
    hashes = {source: data.sha256() for source, data in selected.data.items()}
    setting = chosen.resolve_setting()
    return tuple(
        Cell(
            measure=measure,
            recipe=recipe,
            population=selected.populations[recipe],
            design=family.design,
            position=position,
            data_sha256=hashes[recipe.data_source],
            examples=chosen.examples,
            setting=setting,
            checks=chosen.checks_at(position),
            outcomes=added,
            with_curve=measure is wanted[0],
        )
        for recipe, position in _positions(selected.populations)
        for measure in wanted
    )


@dataclass(frozen=True, slots=True, eq=False)
class SelectedRecipes:
    """The recipes of a cohort, and the data that they are trained on.

    Attributes:
        populations: each recipe with the name of its population, in the order of the cohort.
        data: the tensors by `Recipe.data_source`; models whose images are prepared in different ways have their own.
    """

    populations: Mapping[Recipe, str]
    data: Mapping[DataSource, Data]

    def data_of(self, recipe: Recipe) -> Data:
        """The tensors that the recipe's network is trained on."""
        return self.data[recipe.data_source]

    def by_source(self) -> Iterator[tuple[tuple[Recipe, ...], Data]]:
        """The recipes that share their tensors, with these."""
        for source, data in self.data.items():
            yield tuple(recipe for recipe in self.populations if recipe.data_source == source), data


def select_recipes(
    models: str | Sequence[Model],
    *,
    dataset: str | Dataset,
    cohort: str | Cohort,
    data_dir: Path | str | None,
    plugins: Sequence[Path] = (),
) -> SelectedRecipes:
    """The recipes of a cohort and their data, as `plan` takes them.

    Raises InvalidInput for models that cannot be built for the data set, and recipes that need more examples.
    """
    for word in split_specs(models) if isinstance(models, str) else ():
        if FILE_AND_FUNCTION.fullmatch(word) or word.endswith(".py"):
            raise InvalidInput(
                f"'{shorten(word)}' is a network of a file, which `measure` takes; to train it, make it a class in "
                "MODELS of a --plugin file"
            )
    chosen_models = _select_several(models, "models", plugins)
    chosen_dataset = _select_one(dataset, "datasets", plugins)
    named = name_populations(select_cohort(cohort, plugins), chosen_models, chosen_dataset)
    folder, prepared = data_folder(data_dir), any(model.transform() is not None for model in chosen_models)
    with refusing_load_errors(chosen_dataset):
        images = prepared and chosen_dataset.holds_images(folder)
    populations = {recipe.identify(images=images): population for recipe, population in named.items()}
    first = {recipe.data_source: recipe for recipe in reversed(populations)}
    data = {source: load_data(first[source], folder) for source in dict.fromkeys(r.data_source for r in populations)}
    selected = SelectedRecipes(populations, data)
    for recipes, tensors in selected.by_source():
        check_recipes(recipes, tensors)
    return selected


def select_measures(given: str | Sequence[Measure], plugins: Sequence[Path] = ()) -> tuple[Measure, ...]:
    """The measures that a spec names, or the objects, each once; their fields must be what a record can hold.

    The word 'all' names every installed measure, with its defaults.
    """
    return _select_several(given, "measures", plugins)


def select_cohort(given: str | Cohort, plugins: Sequence[Path] = ()) -> Cohort:
    """The cohort that a spec or the path of a TOML file names, or the object."""
    if not isinstance(given, str):
        return _check_object(given, "cohorts")
    inner = available_parts(plugins)
    if given.endswith(SUFFIX):
        return read_cohort(given, inner)
    chosen: Cohort = parse_spec(given, available("cohorts", plugins).classes, kind="cohort", inner=inner)
    return chosen


def name_populations(cohort: Cohort, models: Sequence[Model], dataset: Dataset) -> dict[Recipe, str]:
    """Recipe -> the model as it was named, which is the name of its population; in the cohort's order.

    Raises InvalidInput where two models give the same network, as a network is part of one population only.
    """
    found: dict[Recipe, str] = {}
    for model in models:
        for recipe in cohort.recipes((model,), dataset):
            if found.get(recipe, format_spec(model)) != format_spec(model):
                raise InvalidInput(
                    f"models '{found[recipe]}' and '{format_spec(model)}' give the same networks "
                    f"in cohort '{cohort.name}'; name one of them"
                )
            found[recipe] = format_spec(model)
    return found


def _select_several(given: str | Sequence[T], kind: Kind, plugins: Sequence[Path]) -> tuple[T, ...]:
    if not isinstance(given, str):
        return _check_objects(given, kind)
    chosen = parse_specs(given, available(kind, plugins).classes, kind=kind[:-1])
    return tuple(_check_object(each, kind) for each in chosen)


def _check_objects(given: Sequence[T], kind: Kind) -> tuple[T, ...]:
    """The objects of `kind` in a sequence, each once."""
    if not isinstance(given, Sequence) or not given:
        raise InvalidInput(f"{kind}={shorten(repr(given))} holds no {kind[:-1]}; give a list of objects, or one text")
    return tuple(dict.fromkeys(_check_object(each, kind) for each in given))


def _select_one(given: str | T, kind: Kind, plugins: Sequence[Path]) -> T:
    if not isinstance(given, str):
        return _check_object(given, kind)
    chosen: T = parse_spec(given, available(kind, plugins).classes, kind=kind[:-1])
    return chosen


def _check_object(given: T, kind: Kind) -> T:
    """`given`, if it is an object of `kind`; the fields of a measure must be what a record can hold."""
    if not isinstance(given, BASE_CLASSES[kind]):
        raise InvalidInput(
            f"{shorten(repr(given))} is not a {kind[:-1]}; give objects, or one text of names and commas"
        )
    for key, value in to_config(given).items() if kind == "measures" else ():
        if not is_scalar(value):
            raise InvalidInput(
                f"measure {shorten(repr(given))}: {key} must be a text, a finite number, true, false or none"
            )
    return given


def _positions(recipes: Mapping[Recipe, str]) -> Iterator[tuple[Recipe, int]]:
    """Each recipe with its position in its population."""
    seen: Counter[str] = Counter()
    for recipe, population in recipes.items():
        yield recipe, seen[population]
        seen[population] += 1
