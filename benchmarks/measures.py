"""Every built-in measure on small-mlp: seconds, and the error against its own oracle."""

from __future__ import annotations

from .networks import gated, subject


def _measure(word: str):
    """The measure that `word` names; skips commits that do not have it yet."""
    try:
        from sharpbench import measure
        from sharpbench.core.evaluate import parse_measure

        return parse_measure(word), measure
    except (ImportError, ValueError) as error:
        raise NotImplementedError(str(error)) from error


class Speed:
    """256 examples, float32, nothing shared between calls."""

    version = "1"
    params = (
        [
            "trace",
            "trace[method=hutchinson]",
            "fisher-rao",
            "normalized",
            "normalized[diagonal=arxiv]",
            "normalized[diagonal=icml]",
            "minimum",
        ],
    )
    param_names = ("measure",)

    def setup(self, word: str) -> None:
        self.chosen, self.measure = _measure(word)
        self.subject = subject("small-mlp", examples=256)
        self.measure(self.chosen, self.subject.fresh())  # captures the graph

    def time_measure(self, word: str) -> None:
        self.measure(self.chosen, self.subject.fresh())


class Exactness:
    """8 examples, float64, those that compute what they define without sampling. Deterministic: a hard gate."""

    version = "1"
    params = (["trace", "fisher-rao", "normalized", "minimum"],)
    param_names = ("measure",)
    unit = "relative error"

    def setup(self, word: str) -> None:
        self.chosen, self.measure = _measure(word)
        self.subject = subject("small-mlp", examples=8, dtype="float64")

    def track_relative_error(self, word: str) -> float:
        return gated(self.error(), 1e-9)

    def error(self) -> float:
        exact = self.chosen.exact(self.subject)
        return abs(self.measure(self.chosen, self.subject).value - exact) / abs(exact)


class Sampling:
    """The same of what samples, at its default number of probes and seed 0: reported, not gated."""

    version = "1"
    params = (["trace[method=hutchinson]", "normalized[diagonal=arxiv]", "normalized[diagonal=icml]"],)
    param_names = ("measure",)
    unit = "relative error"

    setup, error = Exactness.setup, Exactness.error

    def track_relative_error(self, word: str) -> float:
        return self.error()
