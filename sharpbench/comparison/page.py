"""Page: a comparison as words, tables and pictures; a pure function of its rows."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import pandas as pd

from sharpbench.analysis.costs import environment_text
from sharpbench.comparison.contestant import ENOUGH, LEAST, LONG, SHORT
from sharpbench.comparison.measurement import GRADIENT, Measurement
from sharpbench.comparison.plot import pareto_front
from sharpbench.comparison.results import PAIRS, TARGET, NetworkResult, Ratio, Result, network_results, paired_ratio
from sharpbench.comparison.worker import TURN
from sharpbench.report.escape import escape_cell, make_slug
from sharpbench.report.format import MISSING, format_error, format_memory, format_number
from sharpbench.report.page import Block, Page, Picture, Section

# Verdict: who is the fastest, computed from results and said in a line.


def write_verdicts(standing: NetworkResult) -> list[str]:
    """Of the exact ones, and of all that reach the target error, ours against the best of the others."""
    if all(each.error is None for each in standing.results):
        return ["Who is right cannot be told: no error is known."]
    if standing.quantity == "top-eigenvalue":  # all of them iterate
        right = [each for each in standing.results if each.error is not None and each.error <= TARGET]
        return [_said("the fastest that is right to 1 %", right, lambda each: each.seconds)]
    exact = [each for each in standing.results if each.exact]
    sampled = [each for each in standing.results if each.ours or each.stochastic]
    return [
        _said("the fastest exact one", exact, lambda each: each.seconds),
        _said("the fastest to 1 % error, against the sampled ones", sampled, lambda each: each.to_target),
    ]


def _said(what: str, results: Iterable[Result], seconds: Callable[[Result], float | None]) -> str:
    known = [(taken, each) for each in results if (taken := seconds(each)) is not None]
    ours = min((pair for pair in known if pair[1].ours), key=lambda pair: pair[0], default=None)
    others = [pair for pair in known if not pair[1].ours]
    if ours is None:
        best = min(others, key=lambda pair: pair[0], default=None)
        return (
            f"None of ours is {what}: none has a value that is right{'' if best is None else f'; {_best(best)} has'}."
        )
    if not others:
        return f"Ours ({ours[1].name}) is {what}: no other contestant is right."
    longer, other = min(((_longer(ours, pair), pair) for pair in others), key=lambda each: each[0].value)
    few = "" if longer.interval is not None else _why(ours, other)
    low, high = longer.interval or (longer.value, longer.value)
    if low > 1:
        return f"Ours ({ours[1].name}) is {what}: the next, {_best(other)}, takes {_times(longer)} its time{few}."
    if high >= 1 and longer.interval is not None:
        return (
            f"Whether ours ({ours[1].name}) is {what} cannot be told: {_best(other)} takes {_times(longer)} its time."
        )
    return f"Ours ({ours[1].name}) is NOT {what}: {_best(other)} takes {_times(longer)} its time{few}."


def _longer(ours: tuple[float, Result], other: tuple[float, Result]) -> Ratio:
    """The other's time over ours; with an interval where neither is extrapolated, as that of an error is unknown."""
    if any(seconds > each.seconds for seconds, each in (ours, other)):
        return Ratio(other[0] / ours[0], None)
    return paired_ratio(other[1], ours[1])


def _why(ours: tuple[float, Result], other: tuple[float, Result]) -> str:
    """Why a ratio has no interval."""
    if any(seconds > each.seconds for seconds, each in (ours, other)):
        return ""  # which `_best` says
    count = len(ours[1].timed.keys() & other[1].timed.keys())
    return f"; too few rounds in common for an interval, {count}"


def _best(pair: tuple[float, Result]) -> str:
    return pair[1].name + (", extrapolated" if pair[0] > pair[1].seconds else "")


def _times(longer: Ratio) -> str:
    """The ratio, and its interval in brackets."""
    text = f"{_digits(longer.value)}x"
    if longer.interval is None:
        return text
    return f"{text} ({' to '.join(map(_digits, longer.interval))})"


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2g}" if value >= 10 else f"{value:.2f}"


QUANTITIES = {
    "trace": "trace of the Hessian",
    "diagonal": "diagonal of the Hessian",
    "top-eigenvalue": "largest eigenvalue of the Hessian",
}
OPTIONS = {"examples": "n"}
SAID = ("examples", "dataset", "weights", "dtype", "device", "threads", "repeats", "batches", "timeout", "seed")
UNSAFE = re.compile(r"[^\w .,:/=\[\]-]")
UNQUOTED = re.compile(r"[^\w .,:/=\[\]'-]")
HOW = f"""\
Each contestant lives in a process of its own, with its threads fixed and C's heap kept where there is glibc; they take
turns, one running at a time, in an order drawn for each round. Before: a first call, and a search of the batch size. A
call of less than {SHORT:g} s follows one that is not timed, and is repeated for {TURN:g} s; their median is the
round's. Calls that take {ENOUGH:g} s in sum end after {LEAST} rounds; a first call of more than {LONG:g} s is what
counts, or one at the next batch size, and no round is played. What people do once a network is in nobody's seconds:
the capture of our graph; of another library's network the copy that its adapter makes, and the form that it needs.
*seconds* is the median, *spread* the largest less the smallest, over it. Rounds in which other work took processors are
left out where there are others, and marked ! where not. *over ours*: the median over the rounds of the seconds over
those of the fastest exact built-in measure in the same round; with fewer than {PAIRS} rounds in common, the quotient of
both medians. *gradients*: the same over one forward and backward pass over all examples. Intervals are of 95 %, of that
median, by order statistics. *error*: relative to the oracle; of sampled ones, which have another seed each round, the
root mean square over the rounds. *to 1 %*: seconds to a relative error of 1 %; with ≈ those of as many repetitions as
their mean needs, which holds for what is unbiased (a dash where the
mean over the rounds lies off the oracle by more than chance does once in 100); with ? of an error of fewer than {PAIRS}
draws. *memory*: growth of the peak in a call of its own."""


def comparison_page(turns: Iterable[Measurement]) -> Page:
    """The page of all networks in `turns`."""
    found = network_results(turns)
    named = Counter(each.network for each in found)
    titles = sorted({QUANTITIES.get(each.quantity, "quantity") for each in found})
    sections = [_section(each, alone=named[each.network] == 1) for each in found]
    about = Section("How it was measured", (" ".join(HOW.split()), *_places(found)))
    return Page(f"Comparison: {', '.join(titles)}", (*sections, about))


def command_line(turns: Iterable[Measurement]) -> str:
    """The command that makes such rows, of the first network's settings and contestants, but for files of plugins;
    nothing in it ends a comment of HTML."""
    found = network_results(turns)
    held = found[0].settings
    words = [
        f"sharpbench compare --quantity {found[0].quantity}",
        f"--models {','.join(each.network for each in found)}",
    ]
    names = [*(each.name for each in found[0].results), *(name for name, *_ in found[0].losses if name != GRADIENT)]
    words += [f"--{OPTIONS.get(name, name)} {held[name]}" for name in SAID if name in held]
    words += [f"--measures '{UNSAFE.sub('?', ','.join(sorted(names)))}'"] if names else []
    return UNQUOTED.sub("?", " ".join(words))


def _section(standing: NetworkResult, *, alone: bool) -> Section:
    words = make_slug(standing.network) if alone else f"{make_slug(standing.network)}-{make_slug(standing.match[:8])}"
    blocks: list[Block] = [_facts(standing), results_table(standing)]
    blocks += [str(escape_cell(verdict, 400)) for verdict in write_verdicts(standing)]
    if any(each.error is not None for each in standing.results):
        caption = "Error against seconds, with the front that none surpasses in both"
        blocks.append(Picture(f"comparison-{words}", caption, lambda: pareto_front(standing)))
    if standing.losses:
        blocks.append(pd.DataFrame(standing.losses, columns=["without a value", "status", "reason"]))
    return Section(str(escape_cell(standing.network)), tuple(blocks))


def _facts(standing: NetworkResult) -> str:
    """The network and its oracle."""
    held = standing.settings
    text = (
        f"{format_number(_float(held.get('parameters')))} parameters, weights {held.get('weights')}, mean loss "
        f"{format_number(_float(held.get('loss')))} over {held.get('examples')} examples of {held.get('dataset')}; "
        f"{held.get('dtype')} on {held.get('device')}, {held.get('threads')} threads. Oracle: {_oracle(standing)}."
    )
    return str(escape_cell(text, 1000))


def _oracle(standing: NetworkResult) -> str:
    turn = standing.oracle
    if turn is None or turn.value is None:
        return f"{MISSING}: {turn.reason if turn is not None else 'not asked'}"
    star = "" if turn.note == "definition" else " (* the exact engine itself: a check of rounding for it alone)"
    text = f"{format_number(turn.value)}, by the {turn.note}{star}"
    gauss_newton = _float(turn.details.get("gauss-newton"))
    if gauss_newton is None or not turn.details.get("operators"):
        return text
    operators = turn.details["operators"]
    return f"{text}; the Gauss-Newton trace, which is another through {operators}, is {format_number(gauss_newton)}"


def results_table(standing: NetworkResult) -> pd.DataFrame:
    """One row a contestant: the gradient, the deterministic ones, the sampled ones, each by their seconds."""
    unit = standing.gradient
    ours = next((each for each in standing.results if each.ours and each.exact), None)
    every = ([] if standing.gradient is None else [standing.gradient]) + list(standing.results)
    rows = [_row(each, unit, ours, _star(standing)) for each in every]
    frame = pd.DataFrame(rows, columns=list(_row(every[0], None, None, "")) if every else ["contestant"])
    return frame if standing.quantity == "diagonal" or not every else frame.drop(columns="negative")


def _row(result: Result, unit: Result | None, ours: Result | None, star: str) -> dict[str, str]:
    target = result.to_target
    return {
        "contestant": result.name + (" (ours)" if result.ours else ""),
        "seconds": format_number(result.seconds) + ("!" if result.contended == result.rounds else ""),
        "spread": f"{result.spread:.0%}" if result.rounds - result.contended > 1 else MISSING,
        "over ours": MISSING if ours is None else f"{paired_ratio(result, ours).value:.3g}",
        "gradients": MISSING if unit is None else f"{paired_ratio(result, unit).value:.3g}",
        "error": MISSING if result.error is None else format_error(result.error) + star,
        "negative": MISSING if result.negative is None else str(result.negative),
        "rounds": str(result.rounds),
        "to 1 %": MISSING if target is None else _target(result, target),
        "drawn": "sampled" if result.stochastic else MISSING,
        "batch": MISSING if result.batch is None else str(result.batch),
        "memory": format_memory(result.peak_bytes),
    }


def _target(result: Result, seconds: float) -> str:
    return ("≈" if result.extrapolated else "") + format_number(seconds) + ("?" if result.few else "")


def _star(standing: NetworkResult) -> str:
    return "" if standing.oracle is not None and standing.oracle.note == "definition" else "*"


def _places(found: Sequence[NetworkResult]) -> list[Block]:
    """Where the rows were made, and with whose libraries."""
    places = {environment_text(environment) for each in found for environment in each.environments}
    libraries = {f"{name} {version}" for each in found for name, version in each.libraries.items()}
    texts = [*sorted(places), *([f"libraries: {', '.join(sorted(libraries))}"] if libraries else [])]
    return [str(escape_cell(text, 1000)) for text in texts]


def _float(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
