"""Cohorts by name: their axes, their words, their designs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sharpbench.core.spec import format_spec
from sharpbench.datasets import Digits
from sharpbench.errors import InvalidInput
from sharpbench.models import LeNet, Mlp, Model, SmallCnn, SmallMlp
from sharpbench.runner.plan import name_populations, plan, select_cohort
from sharpbench.training.cohorts import COHORTS, Hyperparameters, LabelNoise, LabelNoiseMnist, Optimizers
from sharpbench.training.cohorts.cohort import Cohort
from sharpbench.training.cohorts.hyperparameters import AXIS_NAMES, MODEL_AXES
from sharpbench.training.optimizers import Adam, Asam, FriendlySam, MSam, Sam, Sgd
from sharpbench.training.recipe import Recipe

WORDS = {
    "label-noise": LabelNoise(),
    "label-noise[optimizer=sam[rho=0.1,momentum=0.5],target_accuracy=0.99,weight_decay=0]": LabelNoise(
        optimizer=Sam(rho=0.1, momentum=0.5), target_accuracy=0.99, weight_decay=0.0
    ),
    "label-noise-mnist[optimizer=f-sam,seeds=5]": LabelNoiseMnist(optimizer=FriendlySam(), seeds=5),
    "hyperparameters[axes=width+depth+optimizer,networks=300]": Hyperparameters(axes=("width", "depth", "optimizer")),
    "hyperparameters[axes=optimizer,optimizer=adam+asam[rho=1e+0,eta=0.1],seeds=2]": Hyperparameters(
        axes=("optimizer",), optimizer=(Adam(), Asam(rho=1.0, eta=0.1)), seeds=2
    ),
    "hyperparameters[networks=none,axes=learning_rate,learning_rate=1e-2+1e+1]": Hyperparameters(
        networks=None, axes=("learning_rate",), learning_rate=(0.01, 10.0)
    ),
    "optimizers[factors=1,optimizers=sgd+adam]": Optimizers(factors=(1.0,), optimizers=(Sgd(), Adam())),
}


@pytest.mark.parametrize("word", WORDS)
def test_words_select_cohorts_and_are_their_labels(word: str) -> None:
    cohort = select_cohort(word)
    assert cohort == WORDS[word]
    assert select_cohort(format_spec(cohort)) == cohort


@pytest.mark.parametrize("cohort", COHORTS, ids=lambda cohort: cohort.name)
def test_cohorts_go_model_by_model_in_a_fixed_order(cohort: type[Cohort]) -> None:
    models = (SmallMlp(), SmallCnn(bias=False))
    recipes = cohort().recipes(models, Digits())
    assert recipes == cohort().recipes(models, Digits())
    assert recipes == tuple(recipe for model in models for recipe in cohort().recipes((model,), Digits()))
    assert len({recipe.key for recipe in recipes}) == len(recipes)
    assert {recipe.dataset for recipe in recipes} == {Digits()}
    assert cohort().recipes((), Digits()) == ()


@pytest.mark.parametrize("cohort", COHORTS, ids=lambda cohort: cohort.name)
def test_every_cell_has_as_many_networks_as_there_are_seeds(cohort: type[Cohort]) -> None:
    recipes = cohort().recipes((SmallMlp(),), Digits())
    cells = Counter(str({**recipe.row(), "seed": None}) for recipe in recipes)
    assert set(cells.values()) == {cohort().seeds}  # type: ignore[attr-defined]


def test_new_fields_of_label_noise_reach_its_recipes_and_change_no_default() -> None:
    given: dict[str, Any] = {"optimizer": Sam(rho=0.1), "target_accuracy": 0.9, "weight_decay": 0.3}
    for recipe in LabelNoise(**given).recipes((SmallMlp(),), Digits()):
        assert {name: getattr(recipe, name) for name in given} == given
    plain = LabelNoise().recipes((SmallMlp(),), Digits())[0]
    assert (plain.optimizer, plain.target_accuracy, plain.weight_decay) == (Sgd(), 1.0, 1e-5)


def test_the_cohort_for_mnist_is_what_the_gate_asks() -> None:
    recipes = LabelNoiseMnist().recipes((Mlp(), LeNet()), Digits())
    assert len(recipes) == 2 * 11 * 3
    assert {recipe.train_size for recipe in recipes} == {4096}
    assert {recipe.target_accuracy for recipe in recipes} == {0.99}
    assert sorted({recipe.label_noise for recipe in recipes}) == pytest.approx([step / 10 for step in range(11)])


def test_axes_that_are_not_named_are_the_eight_of_earlier_versions() -> None:
    assert Hyperparameters().grid().product == 3**8
    assert {recipe.augmentation for recipe in Hyperparameters().recipes((SmallMlp(),), Digits())} == {0.0}


def of(recipe: Recipe, name: str) -> object:
    return getattr(recipe.model if name in MODEL_AXES else recipe, name)


def test_every_axis_varies_over_its_values_and_is_part_of_the_draw() -> None:
    cohort = Hyperparameters(axes=AXIS_NAMES)
    recipes = cohort.recipes((SmallMlp(),), Digits())
    assert (len(recipes), cohort.grid().product, cohort.design) == (300, 3**9, "random")
    for name in AXIS_NAMES:
        assert {of(recipe, name) for recipe in recipes} == set(getattr(cohort, name)), name
    assert {recipe.seed for recipe in recipes} == set(range(5))


@pytest.mark.parametrize("axis", AXIS_NAMES)
def test_axes_can_be_chosen_and_the_others_stand_still(axis: str) -> None:
    cohort = select_cohort(f"hyperparameters[axes={axis},seeds=2]")
    recipes = cohort.recipes((SmallCnn(width=9, depth=1),), Digits())
    assert (len(recipes), cohort.design) == (6, "designed")
    for name in AXIS_NAMES:
        values = {of(recipe, name) for recipe in recipes}
        if name == axis:
            assert values == set(getattr(cohort, name))
        else:
            assert values == {{"width": 9, "depth": 1}.get(name) or getattr(cohort, name)[0]}


def test_a_field_outside_of_the_axes_may_be_pinned() -> None:
    cohort = select_cohort("hyperparameters[axes=width,optimizer=adam,train_size=32,seeds=1]")
    recipes = cohort.recipes((SmallMlp(),), Digits())
    assert {(recipe.optimizer, recipe.train_size) for recipe in recipes} == {(Adam(), 32)}


def test_optimizers_have_a_rho_axis_and_one_gate() -> None:
    recipes = Optimizers(seeds=2, target_loss=0.03).recipes((SmallMlp(),), Digits())
    rules = list(dict.fromkeys(recipe.optimizer for recipe in recipes))
    assert rules == [
        Sgd(),
        *(Sam(rho=rho) for rho in (0.025, 0.05, 0.1)),
        *(Asam(rho=rho) for rho in (0.25, 0.5, 1.0)),
        *(MSam(rho=rho) for rho in (0.025, 0.05, 0.1)),
        *(FriendlySam(rho=rho) for rho in (0.1, 0.2, 0.4)),
    ]
    assert {(recipe.target_loss, recipe.label_noise) for recipe in recipes} == {(0.03, 0.0)}
    assert len(recipes) == 2 * len(rules)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("label-noise[optimizer=sam[rho=-1]]", "optimizer: optimizer 'sam': rho=-1.0 must be at least 0"),
        ("label-noise[optimizer=sgdd]", "optimizer: unknown optimizer 'sgdd'; did you mean 'sgd'?"),
        ("label-noise[optimizer=sam[rho=1]", "unbalanced brackets"),
        ("label-noise[optimizer=sam[roh=1]]", "optimizer 'sam' has no parameter 'roh'; did you mean 'rho'?"),
        ("hyperparameters[axes=width+dept]", "axes=width+dept is none of width, depth"),
        ("hyperparameters[axes=]", "axes= names nothing; join values by plus signs"),
        ("hyperparameters[axes=width+width]", "axes=width+width names one axis twice"),
        ("hyperparameters[axes=depth,width=3]", "width=3 would not vary; add width to axes=depth"),
        ("hyperparameters[axes=depth,batch_size=3+4]", "batch_size=3+4 would not vary; add batch_size to axes=depth"),
        ("hyperparameters[networks=4]", "networks=4 must be at least the 5 seeds of one configuration"),
        ("hyperparameters[networks=0]", "networks=0 must be at least 1"),
        ("hyperparameters[seeds=0]", "seeds=0 must be at least 1"),
        ("hyperparameters[width=8+8]", "axis 'width' holds 8 twice"),
        ("optimizers[factors=0]", "factors=0.0 must be above 0"),
        ("label-noise[seeds=1000000000]", "ratios=5 times seeds=1000000000 must be at most 100000 networks"),
        ("hyperparameters[seeds=1000000000,networks=none]", "seeds=1000000000 must be at most 100000"),
        ("optimizers[seeds=1000000000]", "seeds=1000000000 must be at most 100000"),
        ("optimizers[seeds=0]", "seeds=0 must be at least 1"),
        ("optimizers[optimizers=sgd+sgd]", "axis 'optimizer' holds sgd twice"),
        ("optimisers", "unknown cohort 'optimisers'; did you mean 'optimizers'?"),
    ],
)
def test_what_is_wrong_with_a_word_is_one_line(word: str, said: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        select_cohort(word)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", AXIS_NAMES)
def test_an_axis_without_a_value_is_named(name: str) -> None:
    empty: dict[str, Any] = {name: ()}
    with pytest.raises(InvalidInput, match=f"^{name} has no value; give at least one$"):
        Hyperparameters(**empty)


def test_a_model_that_cannot_be_varied_is_named() -> None:
    with pytest.raises(InvalidInput, match="model 'lenet' has no 'width' to vary; leave that axis out, or choose"):
        Hyperparameters().recipes((LeNet(),), Digits())
    assert Hyperparameters(axes=("learning_rate",)).recipes((LeNet(),), Digits())


def test_varied_models_are_one_population_of_the_model_that_was_named() -> None:
    models: tuple[Model, ...] = (SmallMlp(bias=False), SmallCnn())
    cohort = Hyperparameters(axes=("width", "depth"), seeds=1)
    found = name_populations(cohort, models, Digits())
    assert Counter(found.values()) == {"small-mlp[bias=false]": 9, "small-cnn": 9}
    assert all(recipe.model.name == population.partition("[")[0] for recipe, population in found.items())
    cells = plan("trace", models, cohort=cohort, timing=2, device="cpu")
    assert [cell.checks.timed for cell in cells] == [True, True, *[False] * 7] * 2
    assert {cell.design for cell in cells} == {"designed"}


def test_two_models_with_the_same_networks_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"models 'small-mlp' and 'small-mlp\[width=40\]' give the same networks"):
        name_populations(Hyperparameters(axes=("width",)), (SmallMlp(), SmallMlp(width=40)), Digits())


def test_networks_of_other_shapes_are_built_as_they_say() -> None:
    shapes = [tuple(value.shape) for value in SmallMlp(width=7, depth=3).build((1, 8, 8), 4).parameters()]
    assert shapes == [(7, 64), (7,), (7, 7), (7,), (7, 7), (7,), (4, 7), (4,)]
    shapes = [tuple(value.shape) for value in SmallCnn(width=3, depth=4).build((1, 28, 28), 4).parameters()][::2]
    assert shapes == [(3, 1, 5, 5), (3, 3, 5, 5), (3, 3, 5, 5), (3, 3, 5, 5), (4, 3 * 16)]
    assert SmallCnn(width=3, depth=1).build((1, 6, 6), 4)
    with pytest.raises(InvalidInput, match="takes images of at least 1x6x6"):
        SmallCnn(depth=1).build((1, 5, 5), 4)
    with pytest.raises(InvalidInput, match=r"model 'small-cnn': depth=0 must be from 1 to 100"):
        SmallCnn(depth=0)
    with pytest.raises(InvalidInput, match=r"model 'small-mlp': width=2.5 is not a whole number"):
        SmallMlp(width=2.5)  # type: ignore[arg-type]
