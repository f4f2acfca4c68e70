"""Comparisons of optimisers: the recipes, the pairs, and the page, from records whose truth is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from sharpbench.core.record import Record
from sharpbench.core.spec import format_spec
from sharpbench.datasets import Digits
from sharpbench.models.paper import Mlp, SmallMlp
from sharpbench.replays.asam_2021 import Asam2021
from sharpbench.replays.catalog import REPLAYS
from sharpbench.replays.friendly_sam_2024 import FriendlySam2024
from sharpbench.replays.optimizer_comparison import (
    BASELINE_NAMES,
    COMPARED_COLUMNS,
    GeneralizationReplay,
    MatchedLossCohort,
    add_tasks,
    compute_contrasts,
)
from sharpbench.replays.tables import networks_table
from sharpbench.report.page import Page, list_pictures, render_page
from sharpbench.training.optimizers import Asam, Sam, Sgd

MakeMany = Callable[..., list[Record]]
COMPARISONS = [replay for replay in REPLAYS if isinstance(replay, GeneralizationReplay)]
LABELS = [name for name in COMPARED_COLUMNS if name not in BASELINE_NAMES]


def test_contestants_differ_in_model_optimiser_and_seed_alone() -> None:
    cohort = MatchedLossCohort(optimizers=(Sgd(), Sam(), Asam()), seeds=2, label_noise=0.2)
    recipes = cohort.recipes((Mlp(), SmallMlp()), Digits())
    assert len(set(recipes)) == 2 * 3 * 2
    assert [(format_spec(each.model), format_spec(each.optimizer), each.seed) for each in recipes[:3]] == [
        ("mlp", "sgd", 0),
        ("mlp", "sgd", 1),
        ("mlp", "sam", 0),
    ]
    assert len({replace(each, model=Mlp(), optimizer=Sgd(), seed=0) for each in recipes}) == 1
    assert recipes[0].label_noise == 0.2


def table(**changes: object) -> pd.DataFrame:
    rows = [
        {"model": "mlp", "label_noise": noise, "optimizer": optimizer, "seed": seed, "fitted": True,
         "score": 10.0 * seed + 100 * noise + shift + 0.1 * seed * (shift > 0)}
        for noise in (0.0, 0.2)
        for optimizer, shift in (("sgd", 0.0), ("sam", 2.0))
        for seed in (3, 1, 2, 4)
    ]  # fmt: skip
    return add_tasks(pd.DataFrame(rows).assign(**changes))


def test_pairs_are_made_by_seed_so_that_what_seeds_share_cancels() -> None:
    quiet, noisy = compute_contrasts(table(), ["score"], [("sam", "sgd")], logarithmic=False)
    assert (quiet.task, noisy.task) == ("mlp", "mlp (noise 0.2)")
    for each in (quiet, noisy):
        assert each.difference.value == pytest.approx(2.0 + 0.1 * 2.5)
        assert each.difference.interval is not None
        assert each.difference.interval.high - each.difference.interval.low < 1


def test_networks_that_did_not_fit_leave_their_pair_out() -> None:
    frame = table()
    frame.loc[(frame["optimizer"] == "sam") & (frame["seed"] == 4) & (frame["label_noise"] == 0), "fitted"] = False
    quiet, noisy = compute_contrasts(frame, ["score"], [("sam", "sgd")], logarithmic=False)
    assert (quiet.difference.pairs, noisy.difference.pairs) == (3, 4)
    none, _ = compute_contrasts(
        frame.assign(fitted=(frame["optimizer"] == "sgd") | (frame["label_noise"] > 0)),
        ["score"], [("sam", "sgd")], logarithmic=False,
    )  # fmt: skip
    assert (none.difference.value, none.difference.pairs) == (None, 0)


def test_logarithms_are_of_positive_values_alone() -> None:
    frame = table()
    frame["score"] = np.where(frame["seed"] == 1, -1.0, np.exp(frame["score"]))
    quiet, _ = compute_contrasts(frame, ["score"], [("sam", "sgd")], logarithmic=True)
    assert quiet.difference.pairs == 3
    assert quiet.difference.value == pytest.approx(2.0 + 0.1 * 3)


@pytest.mark.parametrize("replay", COMPARISONS, ids=lambda replay: replay.name)
def test_what_is_compared_is_trained(replay: GeneralizationReplay) -> None:
    experiment = replay.experiment("quick")
    trained = {recipe.optimizer for recipe in experiment.recipes}
    assert trained == set(replay.optimizers) >= {each for pair in replay.pairs for each in pair}
    assert len({recipe.seed for recipe in experiment.recipes}) >= 5
    assert len({recipe.target_loss for recipe in experiment.recipes}) == 1


def of(replay: GeneralizationReplay, records: MakeMany) -> Page:
    optimizers = [format_spec(each) for each in replay.optimizers]
    return replay.page("quick", records(labels=LABELS, optimizers=optimizers, noises=(0.0, 0.2), models=("mlp",)), {})


@pytest.mark.parametrize("replay", COMPARISONS, ids=lambda replay: replay.name)
def test_the_page_says_who_is_better_and_by_how_much(replay: GeneralizationReplay, records: MakeMany) -> None:
    text = render_page(of(replay, records), version="1", command="c")
    last, first = format_spec(replay.optimizers[-1]), format_spec(replay.optimizers[0])
    assert f"`{last}` against `{first}`: better on mlp, mlp (noise 0.2)." in text
    assert "nan" not in text.lower().replace("nancy", "")
    assert [picture.name for picture in list_pictures(of(replay, records))] == ["accuracy", "sharpness"]
    assert len([line for line in text.splitlines() if line.startswith(("| mlp ", "| mlp (noise"))]) == 8 + 16


def test_differences_on_the_page_are_those_of_the_networks(records: MakeMany) -> None:
    optimizers = [format_spec(each) for each in Asam2021().optimizers]
    found = records(labels=LABELS, optimizers=optimizers, noises=(0.0,), models=("mlp",))
    frame = networks_table(found).pivot(index="seed", columns="optimizer", values="test_accuracy")
    expected = 100 * (frame["sam"] - frame["sgd"]).mean()
    (accuracy,) = [
        block for block in Asam2021().page("quick", found, {}).sections[0].blocks
        if isinstance(block, pd.DataFrame) and "difference" in block
    ]  # fmt: skip
    assert float(accuracy.set_index("difference")["mlp"]["sam - sgd"].split()[0]) == pytest.approx(expected, abs=0.006)


def test_a_task_in_which_nothing_fitted_has_dashes(records: MakeMany) -> None:
    optimizers = [format_spec(each) for each in FriendlySam2024().optimizers]
    found = [
        replace(record, truth={**record.truth, "fitted": record.recipe["optimizer"] != "f-sam"})
        for record in records(labels=LABELS, optimizers=optimizers, noises=(0.0,), models=("mlp",))
    ]
    page = FriendlySam2024().page("quick", found, {})
    text = render_page(page, version="1", command="c")
    assert "0/5" in text
    assert "`f-sam` against `sgd`: not told apart on mlp." in text
    for picture in list_pictures(page):
        picture.draw()
