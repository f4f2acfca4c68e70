"""Checks of a single record of a submission, without recomputing anything."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping
from typing import get_args

from sharpbench.core.fields import Scalar
from sharpbench.core.measure import REWRITE_KINDS
from sharpbench.core.record import MAX_REASON_CHARS, Design, Record
from sharpbench.core.records import REPEATED_FIELDS
from sharpbench.errors import InvalidInput, shorten
from sharpbench.leaderboard.submissions.manifest import HASH_PATTERN, MEASURE_PATTERN

DEVICES, PRECISIONS = ("cpu", "cuda"), ("float32", "float64")
WORD_PATTERN = re.compile(r"[A-Za-z0-9 ._:+=,\[\]-]{1,300}")
"""Specs as on the command line, without characters that have a meaning in Markdown, HTML, shells or paths."""
MAX_CHARS = {"reason": MAX_REASON_CHARS, "oracle": 100, "time": 40}
MAX_MAGNITUDE = 1e100
"""Of every number of a record; numbers near 1e308 overflow in plots and means."""
GATE_SLACK = 1e-3
"""Relative, of loss and accuracy at the gate, because they were computed twice."""
MAX_ENTRIES, MAX_KEY_CHARS, MAX_TEXT_CHARS = 20_000, 200, 1000
"""Of each mapping in a record."""
MAX_RECIPE_ENTRIES = 200
"""Hyperparameters that a page compares with each other; recipes of this package have about 20."""
REQUIRED_TRUTH = {
    **dict.fromkeys(("train_accuracy", "test_accuracy", "gap"), (int, float)),
    **dict.fromkeys(("train_loss", "parameter_norm"), (int, float, type(None))),
    "fitted": (bool,),
    "steps": (int,),
}
"""Fields of the truth that a record with a value has, with their types."""
OPTIONAL_TRUTH = {"test_loss": (int, float, type(None)), "epochs": (int,), "diverged": (bool,)}
"""Fields that it may have."""


def check_record(record: Record) -> None:
    """Raise InvalidInput for a record that a leaderboard cannot accept, or that could do harm in a page."""
    if not HASH_PATTERN.fullmatch(record.key):
        raise InvalidInput(f"key {shorten(repr(record.key))} is not a SHA-256 in lower case")
    if not MEASURE_PATTERN.fullmatch(record.measure):
        raise InvalidInput(
            f"measure {shorten(repr(record.measure))} is not a name of lower-case letters, digits, hyphens"
        )
    if record.label != record.measure and not record.label.startswith(f"{record.measure}["):
        raise InvalidInput(f"label {shorten(repr(record.label))} does not belong to measure '{record.measure}'")
    if record.device not in DEVICES or record.dtype not in PRECISIONS:
        raise InvalidInput(f"device {shorten(repr(record.device))} or dtype {shorten(repr(record.dtype))} is unknown")
    if not 0 <= record.seed < 2**64:
        raise InvalidInput(f"seed {record.seed} is not a number of 64 bits")
    _check_origin(record)
    _check_words({"label": record.label, **{f"outcome {shorten(name)}": name for name in record.outcomes}})
    odd = [kind for kind in record.invariance if kind not in REWRITE_KINDS]
    if odd:
        raise InvalidInput(f"invariance: {shorten(repr(odd[0]))} is not one of {', '.join(REWRITE_KINDS)}")
    _check_numbers(record)
    _check_texts(record)


def _check_origin(record: Record) -> None:
    """Refuse networks that no cohort trained, and data sets that others do not have."""
    if record.data.get("leaderboard") is False:
        raise InvalidInput("a record of `measure` or of private data (leaderboard false), which no board accepts")
    if record.claimed:
        raise InvalidInput("a record of a network that was trained elsewhere, whose outcomes are claims of a table")
    words = {name: record.recipe.get(name) for name in ("model", "dataset", "optimizer")}
    _check_words({**words, **{name: record.data.get(name) for name in ("population", "design")}})
    if ":" in str(words["dataset"]):
        raise InvalidInput(f"data set {shorten(repr(words['dataset']))} is private files, which others do not have")
    if not HASH_PATTERN.fullmatch(str(record.data.get("sha256"))):
        raise InvalidInput("data.sha256 is not a SHA-256 in lower case")
    for name in ("examples", "test_examples", *(["available"] if "available" in record.data else [])):
        if type(record.data.get(name)) is not int:
            raise InvalidInput(f"data.{name} is not a number of examples")
    _check_population(record)
    if record.truth or record.status == "ok":
        _check_truth(record.truth)
        _check_gate(record)


def _check_population(record: Record) -> None:
    """A population has one model, of which a cohort varies only the fields, and was designed or drawn."""
    named, design = str(record.data["population"]), record.data["design"]
    model, position = str(record.recipe["model"]), record.data.get("position", 0)
    if named.partition("[")[0] != model.partition("[")[0]:
        raise InvalidInput(f"population {shorten(repr(named))} is not one of model {shorten(repr(model))}")
    if design not in get_args(Design):
        raise InvalidInput(f"design {shorten(repr(design))} is not one of {', '.join(get_args(Design))}")
    if type(position) is not int or position < 0:
        raise InvalidInput(f"position {shorten(repr(position))} is not a place in a population")


def _check_words(words: Mapping[str, object]) -> None:
    for name, word in words.items():
        if not isinstance(word, str) or not WORD_PATTERN.fullmatch(word):
            raise InvalidInput(f"{name} {shorten(repr(word))} holds characters that no spec on the command line has")


def _check_numbers(record: Record) -> None:
    least = {"stderr": record.stderr, "seconds": record.seconds, "gradients": record.gradients}
    least["stderr_examples"] = record.stderr_examples
    least |= {"shared_seconds": record.shared_seconds, "peak_bytes": record.peak_bytes, "probes": record.probes}
    for name, number in least.items():
        if number is not None and number < 0:
            raise InvalidInput(f"{name}={shorten(str(number))} is negative")
    named = {name: getattr(record, name) for name in ("value", "low", "high", "exact")}
    numbers: dict[str, object] = {
        **named,
        **least,
        **{f"invariance.{kind}": factor for kind, factor in record.invariance.items()},
    }
    for mapping in ("truth", "recipe", "configuration", "outcomes"):
        numbers |= {f"{mapping}.{name}": value for name, value in getattr(record, mapping).items()}
    for name, value in numbers.items():
        if isinstance(value, int | float) and abs(value) > MAX_MAGNITUDE:
            raise InvalidInput(
                f"{shorten(name)}={shorten(str(value))} exceeds {MAX_MAGNITUDE:g}, which no page and plot can show"
            )
    if (record.low is None) != (record.high is None) or (
        record.low is not None and record.high is not None and record.low > record.high
    ):
        raise InvalidInput("low and high are not an interval")


def _check_truth(truth: Mapping[str, Scalar]) -> None:
    for name, types in {
        **REQUIRED_TRUTH,
        **{name: OPTIONAL_TRUTH[name] for name in OPTIONAL_TRUTH if name in truth},
    }.items():
        value = truth.get(name)
        if name not in truth or not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise InvalidInput(
                f"truth.{name} is {shorten(repr(value))}; expected {' or '.join(t.__name__ for t in types)}"
            )
    train, test, gap = (float(str(truth[name])) for name in ("train_accuracy", "test_accuracy", "gap"))
    if not 0 <= train <= 1 or not 0 <= test <= 1 or abs(train - test - gap) > 1e-9:
        raise InvalidInput(f"truth: gap {gap} is not training accuracy {train} less test accuracy {test}")


def _check_gate(record: Record) -> None:
    """Refuse a network whose gate contradicts its loss, its accuracy or its epochs, up to rounding."""
    truth, recipe = record.truth, record.recipe
    pairs = (("train_loss", "target_loss", 1.0), ("train_accuracy", "target_accuracy", -1.0))
    for name, target, sign in pairs if truth["fitted"] else ():
        reached, wanted = truth[name], recipe.get(target)
        if not isinstance(wanted, int | float):
            continue  # not one of our recipes
        if not isinstance(reached, int | float) or sign * (reached - wanted) > GATE_SLACK * abs(wanted):
            raise InvalidInput(f"truth: fitted with {name} {reached}, where the recipe requires {wanted}")
    epochs, most = truth.get("epochs"), recipe.get("max_epochs")
    ended = isinstance(epochs, int) and isinstance(most, int) and epochs < most
    if not truth["fitted"] and truth.get("diverged") is not True and ended:
        raise InvalidInput(f"truth: neither fitted nor diverged after {epochs} of {most} epochs")


def _check_texts(record: Record) -> None:
    for name, bound in MAX_CHARS.items():
        _check_text(name, getattr(record, name) or "", bound)
    if record.time:
        try:
            datetime.datetime.fromisoformat(record.time)
        except ValueError:
            raise InvalidInput(f"time {shorten(repr(record.time))} is not an ISO 8601 time") from None
    mappings: Iterable[tuple[str, Mapping[str, Scalar]]] = (
        (name, getattr(record, name)) for name in (*REPEATED_FIELDS, "details", "parts", "invariance", "checks")
    )
    for name, held in mappings:
        most = MAX_RECIPE_ENTRIES if name == "recipe" else MAX_ENTRIES
        if len(held) > most:
            raise InvalidInput(f"{name} has {len(held)} entries, more than {most}")
        for key, value in held.items():
            _check_text(f"a key of {name}", key, MAX_KEY_CHARS)
            if isinstance(value, str):
                _check_text(f"{name}.{shorten(key)}", value, MAX_TEXT_CHARS)


def _check_text(what: str, text: str, bound: int) -> None:
    if len(text) > bound or not text.isprintable():
        raise InvalidInput(f"{what} {shorten(repr(text))} is not printable text of at most {bound} characters")
