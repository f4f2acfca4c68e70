"""The headline score: its weights, the populations that enter, and the reasons where there is none."""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest

from sharpbench.analysis.headline import Headline, outcome_family, score_headline
from sharpbench.analysis.population import MeasuredPopulation, group_populations
from sharpbench.analysis.scores import score_population
from sharpbench.analysis.statistics import arrange_lanes, granulated_tau
from sharpbench.core.record import Record
from sharpbench.report.headline_plots import draw_heat, draw_scores
from tests.synthetic import make

OUTCOMES = ("quantised-4", "quantised-2", "forgetting")
CHANGES = {"rate": (0.1, 0.2), "width": (8.0, 16.0, 32.0)}


def records(model: str, *, outcomes: tuple[str, ...] = OUTCOMES, noisy: bool = False, seeds: int = 4) -> list[Record]:
    """All combinations of two hyperparameters; three measures; the outcomes follow the first one to some degree."""
    rng = np.random.default_rng(sum(map(ord, model)))
    found = []
    for rate, width, seed in product(CHANGES["rate"], (8, 16, 32), range(seeds)):
        gap = rate + 0.01 * width + 0.1 * float(rng.standard_normal())
        recipe = {"rate": rate, "width": width}
        truth = {"gap": gap, "train_loss": 0.01, "test_loss": 0.5 + gap**3, "parameter_norm": 3 + gap}
        stated = {name: gap + 0.2 * float(rng.standard_normal()) for name in outcomes}
        for measure, value in (("good", gap), ("bad", -gap), ("blind", float(rng.standard_normal()))):
            known: Any = {"model": model, "recipe": recipe, "truth": truth, "outcomes": stated}
            found.append(make(measure, seed=seed, ratio=0.1 * (seed % 2) * noisy, value=value, **known))
    return found


def score(*populations: list[Record]) -> Headline:
    found = [group_populations(each)[0] for each in populations]
    return score_headline(found, [each.model for each in found])


def slow(population: MeasuredPopulation, label: str) -> float:
    """The score on one population: Psi of each outcome, averaged over families of outcomes, then within them."""
    (row,) = [row for row in population.rows if row.label == label]
    families: dict[str, list[float]] = {}
    axes = {name: [network.recipe[name] for network in population.networks] for name in CHANGES}
    values = [row.value(network) or 0.0 for network in population.networks]
    truths = [{"gap": n.truth["gap"], "loss-gap": float(n.truth["test_loss"] or 0) - 0.01} for n in population.networks]
    stated = [truth | dict(network.outcomes) for truth, network in zip(truths, population.networks, strict=True)]
    for name in stated[0]:
        psi = granulated_tau(values, [float(each[name] or 0.0) for each in stated], axes).overall.value
        families.setdefault(name.split("-")[0], []).append(psi or 0.0)
    return float(np.mean([np.mean(each) for each in families.values()]))


def test_each_population_and_each_family_of_outcomes_has_the_same_weight() -> None:
    one, other = records("a"), records("b", outcomes=(), seeds=6)
    found = {each.name: each for each in score(one, other).scores}
    for label in ("good", "bad", "blind"):
        expected = np.mean([slow(group_populations(each)[0], label) for each in (one, other)])
        assert found[label].tau.value == pytest.approx(expected, abs=1e-12)
        value, interval = found[label].tau.value, found[label].tau.interval
        assert value is not None
        assert interval is not None
        assert value in interval
    assert found["good"].rank == 1
    assert (found["bad"].rank or 0) > (found["good"].rank or 0)
    assert set(found["good"].parts) == {(0, name) for name in ("gap", "loss-gap", *OUTCOMES)} | {
        (1, "gap"),
        (1, "loss-gap"),
    }


def test_pairs_that_are_told_apart_give_the_ranks_and_no_bar_joins_one() -> None:
    found = score(records("a", seeds=6), records("b", seeds=6))
    assert frozenset(("good", "bad")) in found.apart
    taus = {each.name: each.tau.value or 0.0 for each in found.known}
    beaten = {
        name: sum(taus[rival] > tau for rival in taus if frozenset((name, rival)) in found.apart)
        for name, tau in taus.items()
    }
    ranks = {name: 1 + max(beaten[rival] for rival in taus if taus[rival] >= tau) for name, tau in taus.items()}
    assert ranks == {each.name: each.rank for each in found.known}
    assert found.joined
    for first, last in found.joined:
        names = [each.name for each in found.known[first : last + 1]]
        assert not any(frozenset(pair) in found.apart for pair in combinations(names, 2))
        for wider in (found.known[max(first - 1, 0) : last + 1], found.known[first : last + 2]):
            pairs = combinations([each.name for each in wider], 2)
            assert len(wider) == len(names) or any(frozenset(pair) in found.apart for pair in pairs), "the longest"


def test_the_picture_has_one_bar_for_each_run_and_bars_of_a_lane_do_not_meet() -> None:
    found = score(records("a", seeds=6))
    axes, beside = draw_scores(found, {"random"}).axes
    assert len(axes.get_yticks()) == len(found.known)
    assert beside.get_ylim() == axes.get_ylim()
    assert [tuple(np.round(line.get_ydata()).astype(int)) for line in beside.lines] == list(found.joined)
    runs = [(0, 3), (1, 4), (3, 6), (4, 7), (5, 9), (8, 9)]
    lanes = arrange_lanes(runs)
    assert lanes == (0, 1, 2, 0, 1, 0)
    assert all(
        lane != other or last < first
        for (lane, (_, last)), (other, (first, _)) in combinations(zip(lanes, runs, strict=True), 2)
    )


def test_a_measure_that_is_missing_somewhere_has_no_score_but_the_reason() -> None:
    whole, part = records("a"), records("b")
    lost = [each for each in part if each.label != "bad"]
    some = [each for each in lost if not (each.label == "blind" and each.recipe["seed"] == 1)]
    found = {each.name: each for each in score(whole, some).scores}
    assert found["good"].tau.value is not None
    assert (found["bad"].tau.value, found["bad"].rank, found["bad"].tau.reason) == (None, None, "not measured on b")
    assert found["blind"].tau.reason == "no value for some networks on b"
    assert found["label noise"].tau.reason == "the same value for all networks on 2 of 2 populations"
    assert found["bad"].parts[0, "gap"].value is not None, "its Psi on the other population is shown"


def test_populations_in_which_label_noise_varies_do_not_enter_but_are_shown() -> None:
    found = score(records("a"), records("b", noisy=True, seeds=6))
    assert found.entering == (0,)
    assert set(found.populations) == {0, 1}
    alone = {each.name: each.tau.value for each in score(records("a")).scores}
    assert {each.name: each.tau.value for each in found.scores} == alone
    none = score(records("b", noisy=True, seeds=6))
    assert all(each.tau.value is None and each.tau.reason for each in none.scores)


def test_populations_of_few_measures_do_not_enter_but_are_shown() -> None:
    few = [each for each in records("b") if each.label == "good"]
    found = score(records("a"), few)
    assert (found.entering, set(found.populations)) == ((0,), {0, 1})
    two = [each for each in records("b") if each.label != "blind"]
    assert score(records("a"), two).entering == (0, 1), "two of three are two thirds"
    skipped = [
        each if each.label == "good" else replace(each, status="skipped", value=None, reason="x")
        for each in records("b")
    ]
    assert score(records("a"), skipped).entering == (0,), "a measure that was tried and has no value does not count"


def test_a_measure_in_two_settings_counts_as_one_measure_of_its_population() -> None:
    twice = [replace(each, seed=seed, key=f"{each.key} {seed}") for each in records("a") for seed in (0, 1)]
    found = score(twice, records("b"))
    assert found.entering == (0, 1)
    reasons = {each.name: each.tau.reason for each in found.scores}
    assert (reasons["good"], reasons["good (seed 1)"]) == ("not measured on a", "not measured on b")


def test_a_measure_with_the_name_of_a_baseline_keeps_its_score() -> None:
    named = [replace(each, label="random") if each.label == "good" else each for each in records("a")]
    expected = {each.name: each.tau for each in score(records("a")).scores}
    found = {each.name: (each.kind, each.tau) for each in score(named).scores}
    assert found["random"] == ("measure", expected["good"])
    assert found["random (baseline)"] == ("baseline", expected["random"])


def test_equal_differences_of_accuracies_are_tied() -> None:
    """0.9 - 0.8 and 0.8 - 0.7 differ in their last digit; the measure follows that digit."""
    lost = [(9 - number) / 10 - (8 - number) / 10 for number in range(8)]
    assert len(set(lost)) > 2
    for gap, forgetting in ((lambda _: 0.25, lambda seed: lost[seed]), (lambda seed: lost[seed], lambda _: None)):
        found = [
            make(
                "good",
                seed=seed,
                value=lost[seed],
                recipe={"rate": rate},
                truth={"gap": gap(seed), "test_loss": 0.1},
                outcomes={"forgetting": forgetting(seed)},
            )
            for rate, seed in product((1.0, 2.0), range(8))
        ]
        (population,) = group_populations(found)
        assert len({network.outcome for network in population.networks}) == 1
        assert score(found).populations == {}, "no outcome in which two networks differ"


def test_stars_count_the_error_over_examples_as_the_boards_do() -> None:
    known = records("a", seeds=6)
    plain = next(each for each in score(known).scores if each.name == "blind").parts
    uncertain = [replace(each, stderr_examples=0.5, data={**each.data, "available": 5000}) for each in known]
    population = group_populations(uncertain)[0]
    found = next(each for each in score(uncertain).scores if each.name == "blind").parts
    board = next(row for row in score_population(population) if row.label == "blind").correlations.granulated.overall
    assert found[0, "gap"].interval == board.interval
    for name, tau in found.items():
        before = plain[name].interval
        assert tau.value == plain[name].value
        assert tau.interval is not None
        assert before is not None
        assert tau.interval.low < before.low


def test_all_outcomes_are_drawn_with_whole_populations_below_each_other() -> None:
    many = tuple(f"shifted-{number:02}" for number in range(30))
    found = score(records("a", outcomes=many), records("b", outcomes=many), records("c"))
    *panels, _ = draw_heat(found).axes
    columns = [[label.get_text() for label in axes.get_xticklabels()] for axes in panels]
    assert columns == [["gap", "loss-gap", *many], ["gap", "loss-gap", *many, *found.populations[2].outcomes]]
    assert [[text.get_text() for text in axes.texts if text.get_fontweight() == "bold"] for axes in panels] == [
        ["1"],
        ["2", "3"],
    ]


def test_hostile_names_of_outcomes_are_drawn() -> None:
    figure = draw_heat(score(records("a", outcomes=(r"$\frac{$", "<b>"))))
    figure.savefig(io.BytesIO())


def test_networks_of_configurations_without_an_interval_are_left_out_and_counted() -> None:
    kept = [each for each in records("a") if each.recipe["width"] != 8 or int(str(each.recipe["seed"])) < 2]
    found = score(kept)
    assert found.populations[0].left_out == 4
    assert len(found.populations[0].networks) == 16


def test_outcomes_that_some_networks_lack_or_that_are_constant_do_not_count() -> None:
    some = [
        make(
            each.label,
            seed=int(str(each.recipe["seed"])),
            value=each.value,
            model="a",
            recipe=dict(each.recipe),
            truth=dict(each.truth),
            outcomes={"calibration": 0.5} | ({"forgetting": 0.1} if each.recipe["seed"] == 0 else {}),
        )
        for each in records("a")
    ]
    assert list(score(some).populations[0].outcomes) == ["gap", "loss-gap"]


@pytest.mark.parametrize(
    ("name", "family"), [("gap", "gap"), ("loss-gap", "loss"), ("shifted-noise", "shifted"), ("forgetting",) * 2]
)
def test_families_are_the_first_words(name: str, family: str) -> None:
    assert outcome_family(name) == family
