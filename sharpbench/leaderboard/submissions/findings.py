"""Comparisons of the numbers of a submission with recomputed ones, as findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sharpbench.core.fields import Scalar
from sharpbench.core.measure import Estimate
from sharpbench.core.record import Record
from sharpbench.environment import describe_environment
from sharpbench.errors import truncate
from sharpbench.leaderboard.submissions import claims, tolerance
from sharpbench.leaderboard.submissions.verdict import (
    INVARIANCE_PREFIX,
    MAX_TEXT_CHARS,
    NETWORK_NUMBERS,
    Finding,
    Outcome,
)


def compare_network(
    record: Record, found: Mapping[str, Scalar], apart: float, *, train: int, test: int
) -> Iterator[Finding]:
    """The finding on the gap of a network, and on each other number of its truth that differs.

    Where training here led to another network, only the gap is compared.

    Args:
        found: The truth found here.
        apart: The difference of the two networks, see `tolerance.network_difference`.
        train: Training examples.
        test: Test examples.
    """
    yield _compare_gap(record, found, apart, train=train, test=test)
    yield from _check_counts(record, {"train_accuracy": train, "test_accuracy": test})
    examples = int(str(record.data["test_examples"]))
    if examples != test:
        yield _make_finding(record, "test_examples", "differs", _Numbers(claimed=examples, found=test, bound=0))
    if apart > tolerance.SAME_NETWORK:
        return
    for name, bound in tolerance.truth_bounds(record.truth, found, train=train, test=test).items():
        claimed, here = _to_float(record.truth[name]), _to_float(found[name])
        if claimed is None or here is None:
            if claimed is not here:
                reason = f"{name} {_format_number(record.truth[name])} there, {_format_number(found[name])} here"
                yield _make_finding(record, name, "differs", _Numbers(claimed=claimed, found=here), reason=reason)
        elif abs(claimed - here) > bound:
            yield _make_finding(record, name, "differs", _Numbers(claimed=claimed, found=here, bound=bound))


def _check_counts(record: Record, examples: Mapping[str, int]) -> Iterator[Finding]:
    """A finding for each accuracy that is not a whole number of its examples, on whatever network."""
    for name, count in examples.items():
        accuracy = float(str(record.truth[name]))
        if not tolerance.is_whole_count(accuracy, count):
            reason = f"{name} x {count} examples is {accuracy * count:.6g}, not a whole number"
            yield _make_finding(record, name, "differs", _Numbers(claimed=accuracy), reason=reason)


def _compare_gap(record: Record, found: Mapping[str, Scalar], apart: float, *, train: int, test: int) -> Finding:
    claimed, here = float(record.truth["gap"] or 0.0), float(found["gap"] or 0.0)
    bound = tolerance.gap_bound(apart, train, test)
    finding = _make_finding(record, "gap", "agrees", _Numbers(claimed=claimed, found=here, bound=bound))
    beyond = abs(claimed - here) > bound
    if apart <= tolerance.SAME_NETWORK and not beyond:
        equal = tolerance.gaps_equal(record.truth, found)
        return finding if equal else replace(finding, outcome="unknown", reason=_describe_flips(record.truth, found))
    if apart <= tolerance.SAME_NETWORK:
        return replace(finding, outcome="differs")
    if beyond and record.truth["fitted"] and found["fitted"]:
        return replace(finding, outcome="differs")
    return replace(finding, outcome="parted", reason=_describe_parting(record.truth, found))


def compare_value(record: Record, estimate: Estimate, apart: float, found: Mapping[str, Scalar]) -> Finding:
    """The finding on a value; apart: the difference of the networks; found: the truth of the network here."""
    assert record.value is not None
    finding = _make_finding(record, "value", "unknown", _Numbers(claimed=record.value, found=estimate.value))
    if apart > tolerance.SAME_NETWORK:
        both = record.truth["fitted"] and found["fitted"]
        if both and tolerance.magnitudes_differ(record.value, estimate.value):
            limit = (tolerance.MAX_MAGNITUDE_FACTOR - 1) * min(abs(record.value), abs(estimate.value))
            return replace(finding, outcome="differs", bound=limit)
        return replace(finding, outcome="parted", reason=_describe_parting(record.truth, found))
    distance, rounding = abs(record.value - estimate.value), tolerance.rounding_bound(record, estimate, apart)
    here = describe_environment(record.device)
    if tolerance.draws_alike(record, estimate, apart, torch=str(here["torch"])):
        if distance > rounding:
            return replace(finding, bound=rounding, outcome="differs")
        if record.converged != estimate.converged and not _runs_alike(record, apart):
            reason = f"{_describe_end(record.converged)} there, {_describe_end(estimate.converged)} here"
            return replace(finding, reason=f"{reason}, on another processor or network")
        if not tolerance.gaps_equal(record.truth, found):
            return replace(finding, reason=_describe_flips(record.truth, found))
        return replace(finding, bound=rounding, outcome="agrees")
    bound = rounding + tolerance.noise_bound(estimate)
    if distance > bound:
        return replace(finding, bound=bound, outcome="differs")
    return replace(finding, reason=_cut(_describe_draws(record, estimate, str(here["torch"]))))


def _describe_flips(claimed: Mapping[str, Scalar], found: Mapping[str, Scalar]) -> str:
    there, here = _format_number(claimed["gap"]), _format_number(found["gap"])
    return f"its gap is {there} there, {here} here: rounding may explain that, and nothing verifies it"


def _describe_draws(record: Record, estimate: Estimate, torch: str) -> str:
    if record.probes != estimate.probes:
        return f"{record.probes} probes there, {estimate.probes} here: other random numbers, whose noise hides more"
    return f"drawn by torch {record.environment.get('torch')} there, {torch} here: other random numbers"


def _describe_end(converged: bool) -> str:
    return "converged" if converged else "not converged"


def _runs_alike(record: Record, apart: float) -> bool:
    """Whether both agree bit by bit: on one processor with its instruction set, version of torch and network."""
    here = describe_environment(record.device)
    there = {"instructions": here["instructions"], **record.environment}  # earlier versions do not state them
    return apart == 0 and all(there.get(name) == here[name] for name in ("processor", "instructions", "torch"))


def compare_estimate(
    record: Record, estimate: Estimate, apart: float, *, examples: int, available: int
) -> Iterator[Finding]:
    """Findings on the numbers of a record other than its value that differ from the estimate here.

    Standard errors and interval are compared where the same random numbers were drawn on the same network, see
    `tolerance.draws_alike`. Another number of probes differs on the same processor, and so does a number of probes
    where nothing is drawn, or none where something is.

    Args:
        examples: The number of examples here.
        available: The number of examples that the network was trained on.
    """
    for name, count in (("examples", examples), ("available", available)):
        claimed = _to_float(record.data.get(name))
        if claimed is not None and claimed != count:
            yield _make_finding(record, name, "differs", _Numbers(claimed=claimed, found=count, bound=0))
    if apart > tolerance.SAME_NETWORK:
        return
    here, alike = describe_environment(record.device), _runs_alike(record, apart)
    if record.probes != estimate.probes and (alike or 0 in (record.probes, estimate.probes)):
        yield _make_finding(
            record, "probes", "differs", _Numbers(claimed=record.probes, found=estimate.probes, bound=0)
        )
    if not tolerance.draws_alike(record, estimate, apart, torch=str(here["torch"])):
        return
    yield from _compare_spread(record, estimate, tolerance.rounding_bound(record, estimate, apart))
    if alike and record.converged != estimate.converged:  # elsewhere an iteration may end at another step
        there, now = float(record.converged), float(estimate.converged)
        yield _make_finding(record, "converged", "differs", _Numbers(claimed=there, found=now, bound=0))


def _compare_spread(record: Record, estimate: Estimate, bound: float) -> Iterator[Finding]:
    """The findings on standard errors and interval. A standard error over examples is compared where it is claimed."""
    low, high = estimate.interval or (None, None)
    pairs = {"stderr": estimate.stderr, "low": low, "high": high}
    if record.stderr_examples is not None:
        pairs["stderr_examples"] = estimate.stderr_examples
    for name, found in pairs.items():
        stated: float | None = getattr(record, name)
        error = name.startswith("stderr")
        if stated is None or found is None or (error and (stated == 0) != (found == 0)):
            if stated != found:
                reason = f"{name} {_format_number(stated)} there, {_format_number(found)} here"
                yield _make_finding(record, name, "differs", _Numbers(claimed=stated, found=found), reason=reason)
        elif abs(stated - found) > bound:
            yield _make_finding(record, name, "differs", _Numbers(claimed=stated, found=found, bound=bound))


def compare_exact(record: Record, found: float | None, oracle: str, apart: float) -> Iterator[Finding]:
    """The findings on the oracle's value in a record; oracle: the name of the oracle here."""
    assert record.exact is not None
    if apart > tolerance.SAME_NETWORK:
        yield _make_finding(
            record, "exact", "parted", _Numbers(claimed=record.exact, found=found), reason=_OTHER_NETWORK
        )
    elif found is None:
        yield _make_finding(
            record, "exact", "differs", _Numbers(claimed=record.exact), reason="the measure has no oracle here"
        )
    else:
        bound = tolerance.relative_bound("float64", apart) * max(abs(record.exact), abs(found))
        outcome: Outcome = "differs" if abs(record.exact - found) > bound else "agrees"
        yield _make_finding(record, "exact", outcome, _Numbers(claimed=record.exact, found=found, bound=bound))
        if record.oracle != oracle:
            reason = f"the oracle is '{record.oracle}' there, '{oracle}' here"
            yield _make_finding(record, "oracle", "differs", _Numbers(), reason=reason)


def compare_invariance(record: Record, found: Mapping[str, float | None], apart: float) -> Iterator[Finding]:
    """The findings on the factors of change; the same version of torch draws the same rewrites."""
    there, here = record.environment.get("torch"), describe_environment(record.device)["torch"]
    for kind in dict.fromkeys((*record.invariance, *found)):
        claimed, factor = record.invariance.get(kind), found.get(kind)
        what = (INVARIANCE_PREFIX + kind)[:40]
        finding = _make_finding(record, what, "unknown", _Numbers(claimed=claimed, found=factor))
        if apart > tolerance.SAME_NETWORK:
            yield replace(finding, outcome="parted", reason=_OTHER_NETWORK)
        elif there != here:
            yield replace(finding, reason=_cut(f"rewrites by the random numbers of torch {there}"))
        elif claimed is not None and factor is not None:
            bound = tolerance.factor_bound(claimed, factor, apart)
            yield replace(finding, bound=bound, outcome="differs" if abs(claimed - factor) > bound else "agrees")
        elif (kind in record.invariance) != (kind in found):
            yield replace(finding, outcome="differs", reason=_describe_missing(kind in found))
        elif claimed is not factor:
            reason = f"{_format_number(claimed)} there, {_format_number(factor)} here; none: a change of sign"
            yield replace(finding, outcome="differs" if apart == 0 else "unknown", reason=reason)


_OTHER_NETWORK = "training led to another network here"


def _describe_missing(here: bool) -> str:
    if here:
        return "rewrites of that kind are claimed of no network, and there are some"
    return "rewrites of that kind are claimed, and there are none here"


def report_no_value(record: Record, why: str, apart: float) -> Finding:
    """The finding where the measure has no value here; it differs for the same network and version of torch."""
    finding = report_unknown(record, f"the measure has no value here: {why}")
    same = (
        apart <= tolerance.SAME_NETWORK
        and record.environment.get("torch") == describe_environment(record.device)["torch"]
    )
    return replace(finding, outcome="differs") if same else finding


def report_unknown(record: Record, reason: str, what: str = "value") -> Finding:
    """The finding on a number that could not be recomputed."""
    claimed = _to_float(getattr(record, what, None))
    return _make_finding(record, what, "unknown", _Numbers(claimed=claimed), reason=reason)


def _describe_parting(claimed: Mapping[str, Scalar], found: Mapping[str, Scalar]) -> str:
    words = (
        f"{name} {_format_number(claimed.get(name))} there, {_format_number(found[name])} here"
        for name in ("steps", "train_loss")
    )
    return _cut(f"{_OTHER_NETWORK}: {', '.join(words)}")


def _format_number(value: Scalar) -> str:
    return "none" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _to_float(value: Scalar) -> float | None:
    return float(value) if isinstance(value, int | float) else None


@dataclass(frozen=True, slots=True)
class _Numbers:
    """The two numbers that a finding compares, and the bound of their difference."""

    claimed: float | None = None
    found: float | None = None
    bound: float | None = None


def _make_finding(record: Record, what: str, outcome: Outcome, numbers: _Numbers, *, reason: str = "") -> Finding:
    recipe, whole = record.recipe, what in NETWORK_NUMBERS
    noise, seed = recipe.get("label_noise"), recipe.get("seed")
    return Finding(
        key=record.key,
        claim=claims.hash_network_claim(record) if whole else claims.hash_cell_claim(record),
        place=claims.hash_network(record) if whole else claims.hash_cell(record),
        label=_cut(record.label),
        network=_cut(f"{recipe['model']} on {recipe['dataset']}, label noise {noise}, seed {seed}"),
        population=_cut(claims.population_name(record)),
        what=what,
        outcome=outcome,
        claimed=numbers.claimed,
        found=numbers.found,
        bound=numbers.bound,
        reason=_cut(reason),
    )


def _cut(text: str) -> str:
    return truncate(text, MAX_TEXT_CHARS)
