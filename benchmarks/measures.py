"""Every built-in measure on small-mlp: seconds, and the error against its own oracle."""

from __future__ import annotations

from .networks import gated, subject


def _measure(word: str):
    """The measure that `word` names, by public names only, so that older commits can be measured; skips without it."""
    name, _, options = word.rstrip("]").partition("[")
    try:
        from sharpbench_measures import MEASURES

        from sharpbench import measure

        cls = {each.name: each for each in MEASURES}[name]
        return cls(**dict(option.split("=") for option in options.split(",") if option)), measure
    except (ImportError, KeyError, TypeError) as error:
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
    """8 examples, float64, measures that do not sample. The error is deterministic and gates."""

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
    """The same for measures that sample, with their default number of probes and seed 0: reported, not gated."""

    version = "1"
    params = (["trace[method=hutchinson]", "normalized[diagonal=arxiv]", "normalized[diagonal=icml]"],)
    param_names = ("measure",)
    unit = "relative error"

    setup, error = Exactness.setup, Exactness.error

    def track_relative_error(self, word: str) -> float:
        return self.error()
