"""A comparison as a page: sentences, tables and plots, as a pure function of its rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import pandas as pd

from sharpbench.analysis.costs import format_environment
from sharpbench.comparison.contestant import ALL_ROUNDS_SECONDS, MIN_ROUNDS, ONLY_CALL_SECONDS, REPEATED_CALL_SECONDS
from sharpbench.comparison.measurement import GRADIENT, Measurement
from sharpbench.comparison.plot import draw_results
from sharpbench.comparison.results import MIN_PAIRS, ContestantResult, NetworkResult, network_results, paired_ratio
from sharpbench.comparison.verdict import write_verdicts
from sharpbench.comparison.worker import ROUND_SECONDS
from sharpbench.report.escape import escape_cell, make_slug
from sharpbench.report.format import MISSING, format_error, format_memory, format_number
from sharpbench.report.page import Block, Page, Picture, Section

QUANTITY_TITLES = {
    "trace": "trace of the Hessian",
    "diagonal": "diagonal of the Hessian",
    "top-eigenvalue": "largest eigenvalue of the Hessian",
}
OPTION_SETTINGS = (
    "examples",
    "dataset",
    "weights",
    "mean",
    "std",
    "transform",
    "dtype",
    "device",
    "threads",
    "repeats",
    "batches",
    "timeout",
    "seed",
)
"""The settings that are options of the command; all but the first have the option's name."""
OPTION_NAMES = {"examples": "n"}
UNSAFE = re.compile(r"[^\w .,:/=\[\]-]")
UNSAFE_UNQUOTED = re.compile(r"[^\w .,:/=\[\]'-]")
METHOD = f"""\
Each contestant has its own process, with a fixed number of threads; glibc keeps freed memory in the process. One
process runs at a time, and the order is drawn anew in each round. Before the first round each contestant makes a
first call and searches its batch size. A call of less than {REPEATED_CALL_SECONDS:g} s follows an untimed call and is
repeated for {ROUND_SECONDS:g} s; the median is the round's time. A contestant whose calls take {ALL_ROUNDS_SECONDS:g}
s in total ends after {MIN_ROUNDS} rounds. If the first call takes more than {ONLY_CALL_SECONDS:g} s, there are no
rounds: that call counts, or a faster one at the next batch size. Work done once per network is not timed: capturing
our graph, and for another library the copy of the network that its adapter makes and converts.
*seconds* is the median over the rounds, *spread* their range over the median. Rounds in which other work took
processor time are left out unless all were; then the time is marked !. *over ours* is the median over the rounds of
the seconds over those of the fastest exact built-in measure in the same round; with fewer than {MIN_PAIRS} rounds in
common it is the ratio of both medians. *gradients* is the same over one forward and backward pass over all examples.
Intervals are 95 % intervals of that median, by order statistics.
*error* is relative to the oracle; a sampled contestant has another seed in each round, and its error is the root mean
square over the rounds. *to 1 %* is the seconds to a relative error of 1 %. With ≈ it assumes as many repetitions as
their mean needs, which holds for unbiased contestants; a dash marks a mean over the rounds that deviates from the
oracle by more than chance does once in 100. With ? the error comes from fewer than {MIN_PAIRS} draws. *memory* is the
growth of the peak memory in a separate call."""


def comparison_page(rows: Iterable[Measurement]) -> Page:
    """The page of all networks in `rows`."""
    found = network_results(rows)
    counts = Counter(result.network for result in found)
    titles = sorted({QUANTITY_TITLES.get(result.quantity, "quantity") for result in found})
    sections = [_network_section(result, unique=counts[result.network] == 1) for result in found]
    about = Section("How it was measured", (" ".join(METHOD.split()), *_environment_lines(found)))
    return Page(f"Comparison: {', '.join(titles)}", (*sections, about))


def command_line(rows: Iterable[Measurement]) -> str:
    """The command that makes such rows, from the first network's settings and contestants, without plugin files.

    It holds no character that could end an HTML comment.
    """
    found = network_results(rows)
    first, settings = found[0], found[0].settings
    words = [
        f"sharpbench compare --quantity {first.quantity}",
        f"--models {','.join(result.network for result in found)}",
    ]
    words += [f"--{OPTION_NAMES.get(name, name)} {settings[name]}" for name in OPTION_SETTINGS if name in settings]
    failed = [name for name, *_ in first.failures if name != GRADIENT]
    names = sorted([*(result.name for result in first.results), *failed])
    words += [f"--measures '{UNSAFE.sub('?', ','.join(names))}'"] if names else []
    return UNSAFE_UNQUOTED.sub("?", " ".join(words))


def _network_section(found: NetworkResult, *, unique: bool) -> Section:
    slug = make_slug(found.network) if unique else f"{make_slug(found.network)}-{make_slug(found.match[:8])}"
    blocks: list[Block] = [_network_facts(found), results_table(found)]
    blocks += [str(escape_cell(verdict, 400)) for verdict in write_verdicts(found)]
    if any(result.error is not None for result in found.results):
        caption = "Error against seconds, with the Pareto front"
        blocks.append(Picture(f"comparison-{slug}", caption, lambda: draw_results(found)))
    if found.failures:
        blocks.append(pd.DataFrame(found.failures, columns=["without a value", "status", "reason"]))
    return Section(str(escape_cell(found.network)), tuple(blocks))


def _network_facts(found: NetworkResult) -> str:
    """The network and its oracle in one sentence each."""
    settings = found.settings
    text = (
        f"{format_number(_to_float(settings.get('parameters')))} parameters, weights {settings.get('weights')}, mean "
        f"loss {format_number(_to_float(settings.get('loss')))} over {settings.get('examples')} examples of "
        f"{settings.get('dataset')}; {settings.get('dtype')} on {settings.get('device')}, {settings.get('threads')} "
        f"threads. Oracle: {_oracle_text(found.oracle)}."
    )
    return str(escape_cell(text, 1000))


def _oracle_text(oracle: Measurement | None) -> str:
    if oracle is None or oracle.value is None:
        return f"{MISSING}: {oracle.reason if oracle is not None else 'not measured'}"
    star = " (* the exact engine itself, whose error only shows rounding)" if _oracle_mark(oracle) else ""
    text = f"{format_number(oracle.value)}, by the {oracle.note}{star}"
    gauss_newton, operators = _to_float(oracle.details.get("gauss-newton")), oracle.details.get("operators")
    if gauss_newton is None or not operators:
        return text
    return (
        f"{text}; the Gauss-Newton trace, which is different because of {operators}, is {format_number(gauss_newton)}"
    )


def _oracle_mark(oracle: Measurement | None) -> str:
    """A star next to errors against a reference value that is not by the definition."""
    return "" if oracle is not None and oracle.note == "definition" else "*"


def results_table(found: NetworkResult) -> pd.DataFrame:
    """One row per contestant: the gradient, then deterministic ones, then sampled ones, each by seconds."""
    results = ([] if found.gradient is None else [found.gradient]) + list(found.results)
    if not results:
        return pd.DataFrame(columns=["contestant"])
    ours = next((result for result in found.results if result.built_in and result.exact), None)
    mark = _oracle_mark(found.oracle)
    table = pd.DataFrame([_result_row(result, found.gradient, ours, mark) for result in results])
    return table if found.quantity == "diagonal" else table.drop(columns="negative")


def _result_row(
    result: ContestantResult, gradient: ContestantResult | None, ours: ContestantResult | None, mark: str
) -> dict[str, str]:
    return {
        "contestant": result.name + (" (ours)" if result.built_in else ""),
        "seconds": format_number(result.seconds) + ("!" if result.contended == result.rounds else ""),
        "spread": f"{result.spread:.0%}" if result.rounds - result.contended > 1 else MISSING,
        "over ours": MISSING if ours is None else f"{paired_ratio(result, ours).value:.3g}",
        "gradients": MISSING if gradient is None else f"{paired_ratio(result, gradient).value:.3g}",
        "error": MISSING if result.error is None else format_error(result.error) + mark,
        "negative": MISSING if result.negative is None else str(result.negative),
        "rounds": str(result.rounds),
        "to 1 %": _target_text(result),
        "drawn": "sampled" if result.stochastic else MISSING,
        "batch": MISSING if result.batch is None else str(result.batch),
        "memory": format_memory(result.peak_bytes),
    }


def _target_text(result: ContestantResult) -> str:
    seconds = result.seconds_to_target
    if seconds is None:
        return MISSING
    return ("≈" if result.extrapolated else "") + format_number(seconds) + ("?" if result.few_draws else "")


def _environment_lines(found: Sequence[NetworkResult]) -> list[Block]:
    """The environments in which the rows were made, and the libraries."""
    environments = {format_environment(environment) for result in found for environment in result.environments}
    libraries = {f"{name} {version}" for result in found for name, version in result.libraries.items()}
    texts = [*sorted(environments), *([f"libraries: {', '.join(sorted(libraries))}"] if libraries else [])]
    return [str(escape_cell(text, 1000)) for text in texts]


def _to_float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
