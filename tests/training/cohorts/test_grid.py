"""Grids: products, and draws of them that keep configurations whole."""

from __future__ import annotations

from itertools import product

import pytest

from sharpbench.datasets import Digits
from sharpbench.errors import InvalidInput
from sharpbench.models import LeNet, SmallMlp
from sharpbench.training.cohorts import Axis, Grid
from sharpbench.training.optimizers import Sam, Sgd

RATES = Axis("learning_rate", (0.1, 0.01))
OPTIMIZERS = Axis("optimizer", (Sgd(), Sam()))
WIDTHS = Axis("width", (5, 6, 7), of_model=True)
MODEL = (SmallMlp(),)


def test_a_product_is_all_combinations_in_their_order() -> None:
    recipes = list(Grid((RATES, OPTIMIZERS, WIDTHS), (0, 3)).recipes(MODEL, Digits(), {"train_size": 7}))
    expected = product((0.1, 0.01), (Sgd(), Sam()), (5, 6, 7), (0, 3))
    found = [(each.learning_rate, each.optimizer, each.model, each.seed) for each in recipes]
    assert found == [(rate, rule, SmallMlp(width=width), seed) for rate, rule, width, seed in expected]
    assert {each.train_size for each in recipes} == {7}


def drawn(networks: int, draw: int = 0, axes: tuple[Axis, ...] = (RATES, OPTIMIZERS, WIDTHS)) -> list[str]:
    grid = Grid(axes, (0, 1), networks, draw)
    return [recipe.key for recipe in grid.recipes(MODEL, Digits(), {})]


def test_a_draw_keeps_configurations_whole_and_the_order_of_the_product() -> None:
    whole = drawn(24)
    for networks in range(2, 24):
        part = drawn(networks)
        assert len(part) == networks // 2 * 2
        assert part == [key for key in whole if key in part]
        assert [whole.index(key) % 2 for key in part] == [0, 1] * (len(part) // 2)
        assert [whole.index(key) // 2 for key in part[::2]] == [whole.index(key) // 2 for key in part[1::2]]


def test_a_larger_draw_contains_a_smaller_one_and_another_draw_differs() -> None:
    assert set(drawn(6)) < set(drawn(12)) < set(drawn(24))
    assert len({tuple(drawn(12, draw)) for draw in range(10)}) == 10


def test_a_draw_does_not_depend_on_the_order_in_which_axes_and_values_are_written() -> None:
    backwards = tuple(Axis(axis.name, axis.values[::-1], axis.of_model) for axis in (WIDTHS, OPTIMIZERS, RATES))
    assert set(drawn(10)) == set(drawn(10, axes=backwards))


def test_every_configuration_is_as_likely_as_any_other() -> None:
    """How often each of 12 is among 4 of 600 draws: 200 on average, standard deviation 11.5."""
    counts = dict.fromkeys(drawn(24), 0)
    for draw in range(600):
        for key in drawn(8, draw):
            counts[key] += 1
    assert min(counts.values()) > 200 - 4 * 11.5
    assert max(counts.values()) < 200 + 4 * 11.5


def test_only_what_leaves_configurations_out_is_a_random_design() -> None:
    designs = [Grid((WIDTHS,), (0, 1), networks).design for networks in (None, 2, 5, 6, 100)]
    assert designs == ["designed", "random", "random", "designed", "designed"]


def test_a_grid_without_axes_is_one_configuration() -> None:
    assert [each.seed for each in Grid((), (4, 5)).recipes(MODEL, Digits(), {})] == [4, 5]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Axis("width", ()), "axis 'width' holds no value; give different values"),
        (lambda: Axis("width", (1, 2, 1), where="f:3: "), "f:3: axis 'width' holds 1 twice; give different values"),
        (lambda: Grid((WIDTHS,), (0, 1), 1), "networks=1 must be at least the 2 seeds of one configuration"),
        (
            lambda: Grid((Axis("seed", tuple(range(1000))), Axis("batch_size", tuple(range(1, 102)))), (0,)),
            "the axes have 101,000 combinations, 101,000 networks, where 100,000 are the most; choose fewer axes",
        ),
    ],
)
def test_what_is_no_grid_is_refused(make: object, said: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        make()  # type: ignore[operator]
    assert said in str(raised.value)


def test_a_model_without_the_field_is_named_with_the_remedy() -> None:
    with pytest.raises(InvalidInput, match="f:2: model 'lenet' has no 'width' to vary; leave that axis out, or choose"):
        list(Grid((Axis("width", (1,), True, "f:2: "),), (0,)).recipes((LeNet(),), Digits(), {}))
    with pytest.raises(InvalidInput, match="model 'small-mlp': width=0 must be from 1 to 65,536"):
        list(Grid((Axis("width", (0,), True),), (0,)).recipes(MODEL, Digits(), {}))
    with pytest.raises(InvalidInput, match="model 'lenet': bias=yes is neither true nor false"):
        list(Grid((Axis("bias", ("yes",), True),), (0,)).recipes((LeNet(),), Digits(), {}))
