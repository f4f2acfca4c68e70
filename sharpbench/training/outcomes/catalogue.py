"""The outcomes by name, and their choice on the command line."""

from __future__ import annotations

from collections.abc import Sequence

from sharpbench.datasets.dataset import Data
from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.training.outcomes.forgetting import Forgetting
from sharpbench.training.outcomes.outcome import AccuracyGap, Calibration, LossGap, Outcome
from sharpbench.training.outcomes.shifts import IMAGE_SHIFTS, SIGNAL_SHIFTS, Shifted
from sharpbench.training.outcomes.weights import Pruned, Quantised

OUTCOMES: dict[str, Outcome] = {
    outcome.name: outcome
    for outcome in (
        AccuracyGap(),
        LossGap(),
        Calibration(),
        *(Quantised(bits) for bits in (8, 4, 3, 2)),
        *(Pruned(percent) for percent in (50, 80, 90)),
        *(Shifted(kind) for kind in dict.fromkeys((*SIGNAL_SHIFTS, *IMAGE_SHIFTS))),
        Forgetting(),
    )
}
ALL = "all"
"""The word for every outcome that the data set has."""


def select_outcomes(given: str | Sequence[str], data: Sequence[Data]) -> tuple[str, ...]:
    """The names of outcomes in a comma-separated text or a list, each once; 'all' are those that the data have.

    Raises InvalidInput for an unknown name, and for an outcome that is not defined on one of the data sets.

    >>> select_outcomes("quantised-4,gap,gap", [])
    ('quantised-4', 'gap')
    """
    names = [name.strip() for name in given.split(",")] if isinstance(given, str) else list(given)
    if names == [ALL]:
        return tuple(name for name, each in OUTCOMES.items() if not any(each.objection(tensors) for tensors in data))
    if ALL in names:
        raise InvalidInput(f"'{ALL}' takes every outcome; leave out the other names")
    for name in names:
        if name not in OUTCOMES:
            hint = suggest_names(name, OUTCOMES) or f"there are {', '.join(OUTCOMES)}, and 'all'"
            raise InvalidInput(f"no outcome '{shorten(name)}'; {hint}")
        for tensors in data:
            if objection := OUTCOMES[name].objection(tensors):
                raise InvalidInput(f"outcome '{name}' is not defined on these data: {objection}; leave it out")
    return tuple(dict.fromkeys(names))
