"""Cohorts of TOML files: what they mean, and in which line they go wrong."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sharpbench.datasets import Digits
from sharpbench.errors import InvalidInput
from sharpbench.models import Mlp, SmallMlp
from sharpbench.runner.plan import select_cohort
from sharpbench.training.cohorts.toml import TomlDocument
from sharpbench.training.optimizers import Sam, Sgd
from sharpbench.training.recipe import Recipe

TEXT = """\
# rates and optimisers
[fixed]
train_size = 64
target_loss = 1
label_noise = 0.25

[axes]
learning_rate = [
  0.01,  # [axes]
  0.05,
]
optimizer = ["sgd", "sam[rho=0.1]"]
seed = [3, 1]

[model]
width = [10, 20]

[random]
networks = 6
"""
WHOLE = TEXT[: TEXT.index("[random]")]


def cohort(folder: Path, text: str, name: str = "mine.toml") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def recipes(path: str) -> tuple[Recipe, ...]:
    return select_cohort(path).recipes((SmallMlp(),), Digits())


def test_a_file_is_the_product_of_its_axes(tmp_path: Path) -> None:
    found = recipes(cohort(tmp_path, WHOLE))
    expected = [
        Recipe(
            model=SmallMlp(width=width),
            dataset=Digits(),
            train_size=64,
            target_loss=1.0,
            label_noise=0.25,
            learning_rate=rate,
            optimizer=rule,
            seed=seed,
        )
        for rate in (0.01, 0.05)
        for rule in (Sgd(), Sam(rho=0.1))
        for width in (10, 20)
        for seed in (3, 1)
    ]
    assert list(found) == expected
    assert select_cohort(cohort(tmp_path, WHOLE)).design == "designed"
    assert [each.key for each in found] == [each.key for each in expected]


def test_a_byte_order_mark_is_not_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "marked.toml").write_text(WHOLE, encoding="utf-8-sig")
    assert recipes(str(tmp_path / "marked.toml")) == recipes(cohort(tmp_path, WHOLE))


def test_a_random_part_of_it(tmp_path: Path) -> None:
    path = cohort(tmp_path, TEXT)
    assert len(recipes(path)) == 6
    assert set(recipes(path)) < set(recipes(cohort(tmp_path, WHOLE, "whole.toml")))
    assert select_cohort(path).design == "random"
    assert recipes(cohort(tmp_path, TEXT + "seed = 1\n", "other.toml")) != recipes(path)


def test_the_content_counts_and_not_the_path(tmp_path: Path) -> None:
    first = cohort(tmp_path, TEXT)
    other = cohort(tmp_path, TEXT.replace("# rates", "# other words") + "\n", "elsewhere.toml")
    assert select_cohort(first) == select_cohort(other)
    assert recipes(first) == recipes(other)


def test_an_empty_file_is_one_network(tmp_path: Path) -> None:
    assert recipes(cohort(tmp_path, "")) == (Recipe(model=SmallMlp(), dataset=Digits()),)
    assert recipes(cohort(tmp_path, "fixed.seed = 4")) == (Recipe(model=SmallMlp(), dataset=Digits(), seed=4),)


FAULTS = [
    ("learning_rate = [", "learning_rat = [", 8, "a recipe has no 'learning_rat'; did you mean 'learning_rate'?"),
    ("  0.05,", "  -0.05,", 8, "learning_rate=-0.05 must be above 0"),
    ("  0.05,", "  nan,", 8, "learning_rate=nan is not finite"),
    ("  0.05,", "  0.01,", 8, "axis 'learning_rate' holds 0.01 twice"),
    ("  0.05,", '  "0.05",', 8, "learning_rate=0.05 is not a number"),
    ("  0.05,", "  true,", 8, "learning_rate=True is not a number"),
    ("  0.05,", "  [0.1],", 8, "learning_rate=[0.1] is not a single value"),
    ('"sgd"', '"sdg"', 12, "unknown optimizer 'sdg'; did you mean 'sgd'?"),
    ('"sgd"', "1", 12, "optimizer=1 is not text; write it as on the command line"),
    ("rho=0.1", "rho=-1", 12, "optimizer 'sam': rho=-1.0 must be at least 0"),
    ("seed = [3, 1]", "seed = 3", 13, "seed=3 is not a list of values; write seed = [1, 2]"),
    ("seed = [3, 1]", "seed = []", 13, "seed=[] is not a list of values"),
    ("seed = [3, 1]", "seed = [1, 1]", 13, "axis 'seed' holds 1 twice"),
    ("seed = [3, 1]", "train_size = [3, 1]", 13, "'train_size' is also in [fixed]; remove it from one of the two"),
    (
        "train_size = 64",
        "train_size = [64]",
        3,
        "train_size=[64] is not a single value; put a field that varies into [axes]",
    ),
    ("train_size = 64", "train_size = 0", 3, "train_size=0 must be at least 1"),
    ("train_size = 64", "train_size = 6.5", 3, "train_size=6.5 is not a whole number"),
    ("train_size = 64", f"batch_size = 1{'0' * 30}", 3, f"must be at most {2**63 - 1}"),
    ("target_loss = 1", f"target_loss = 1{'0' * 400}", 4, "is too large"),
    ("train_size = 64", 'dataset = "mnist"', 3, "'dataset' is named on the command line; leave it out"),
    ("train_size = 64", "train_size = 1979-05-27", 3, "train_size=1979-05-27 is not a whole number"),
    ("[model]", "[modell]", 15, "a cohort has no 'modell'; did you mean 'model'?"),
    ("[model]\nwidth = [10, 20]", "[[model]]\nwidth = 1", 15, "is not a table; write [model] above its keys"),
    ("width", "widht", 16, "model 'small-mlp' has no 'widht' to vary; did you mean 'width'?"),
    ("[10, 20]", '[10, "x"]', 16, "model 'small-mlp': width=x is not a whole number"),
    ("[10, 20]", "[10, 0]", 16, "model 'small-mlp': width=0 must be from 1 to 65,536"),
    ("[10, 20]", "[10, [0]]", 16, "width=[0] is not text, a finite number, true or false"),
    ("networks = 6", "networks = 1", 19, "networks=1 must be at least the 2 seeds of one configuration"),
    ("networks = 6", "networks = 0", 19, "networks=0 must be at least 1"),
    ("networks = 6", "networks = 6.0", 19, "networks=6.0 is not a whole number"),
    ("networks = 6", "network = 6", 19, "[random] has no 'network'; did you mean 'networks'?"),
    ("networks = 6", "seed = 6", 18, "[random] needs the number of networks to draw, networks = 300"),
    ("train_size = 64", "train_size = ", 3, "not TOML at column 14: Invalid value"),
    ("train_size = 64", "train_size = 64\ntrain_size = 65", 4, "not TOML at column 16: Cannot overwrite a value"),
    ("networks = 6\n", "networks = [", 19, "not TOML"),
]


@pytest.mark.parametrize(("there", "instead", "line", "said"), FAULTS, ids=[fault[1][:24] for fault in FAULTS])
def test_what_is_wrong_is_one_line_with_file_line_and_bound(
    tmp_path: Path, there: str, instead: str, line: int, said: str
) -> None:
    assert TEXT.count(there) == 1
    path = cohort(tmp_path, TEXT.replace(there, instead))
    with pytest.raises(InvalidInput) as raised:
        recipes(path)
    assert str(raised.value).startswith(f"{path}:{line}: "), raised.value
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_model_without_the_field_is_named_in_its_line(tmp_path: Path) -> None:
    chosen = select_cohort(cohort(tmp_path, TEXT))
    with pytest.raises(InvalidInput, match=r"mine.toml:16: model 'mlp' has no 'width' to vary; leave that axis out"):
        chosen.recipes((Mlp(),), Digits())


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"there is no file '.*none.toml'; name a cohort, or a TOML file"):
        select_cohort(str(tmp_path / "none.toml"))
    (tmp_path / "bytes.toml").write_bytes(b"# a\n# \xff\n")
    with pytest.raises(InvalidInput, match=r"bytes.toml:2: not UTF-8"):
        select_cohort(str(tmp_path / "bytes.toml"))
    with pytest.raises(InvalidInput, match=r"more than 65,536 bytes"):
        select_cohort(cohort(tmp_path, "#" * 70_000))
    with pytest.raises(InvalidInput, match=r"mine.toml:1: not TOML"):
        select_cohort(cohort(tmp_path, "a = " + "[" * 60_000))


KEYS = st.sampled_from(["a", "b", '"c.d"', "e"])
VALUES = st.sampled_from(
    ["1", "[1,\n 2]", '"""x\na = 2\n"""', "{ x = 1 }", "'[a]'", "[\n# a = 3\n]", '"\\"["', "'''\na = 4'''''", '"#"']
)


@given(st.lists(st.tuples(KEYS, VALUES), min_size=1, max_size=4, unique_by=lambda each: each[0]), st.data())
def test_a_key_is_found_in_the_line_where_it_is_written(pairs: list[tuple[str, str]], data: st.DataObject) -> None:
    """Whatever values of several lines, comments and strings that look like keys stand before it."""
    fillers = data.draw(st.lists(st.sampled_from(["", "# a = 1\n", "\n"]), min_size=len(pairs), max_size=len(pairs)))
    text, lines = "[t]\n", {}
    for (key, value), filler in zip(pairs, fillers, strict=True):
        text += filler
        lines[key.strip('"')] = text.count("\n") + 1
        text += f"{key} = {value}\n"
    document = TomlDocument("f", text, tomllib.loads(text))
    for key, line in lines.items():
        assert document.where("t", key) == f"f:{line}: "
    assert document.where("t") == "f:1: "


def test_the_line_of_a_key_is_found_with_few_parses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parses = []
    monkeypatch.setattr(tomllib, "loads", lambda text, loads=tomllib.loads: parses.append(text) or loads(text))
    seeds = "".join(f"  {seed},\n" for seed in range(2000))
    assert len(recipes(cohort(tmp_path, f"[axes]\nseed = [\n{seeds}]\nlearning_rate = [0.1]\n"))) == 2000
    assert len(parses) == 1  # no line is looked for where nothing is wrong
    with pytest.raises(InvalidInput, match=r"mine.toml:2: axis 'seed' holds 7 twice"):
        recipes(cohort(tmp_path, f"[axes]\nseed = [\n{seeds}  7,\n]\nlearning_rate = [0.1]\n"))
    assert len(parses) < 6
    text = "[t]\n" + "".join(f"k{number} = [\n1]\n" for number in range(1000))
    document = TomlDocument("f", text, tomllib.loads(text))
    del parses[:]
    assert document.where("t", "k700") == "f:1402: "
    assert len(parses) <= 10


def test_no_code_of_a_file_is_executed(tmp_path: Path) -> None:
    path = cohort(tmp_path, f"[axes]\noptimizer = [\"__import__('os').mkdir('{tmp_path}/made')\"]\n")
    with pytest.raises(InvalidInput, match=re.escape(f"{path}:2: ")):
        recipes(path)
    assert not (tmp_path / "made").exists()
