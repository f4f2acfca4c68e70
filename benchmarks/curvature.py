"""The exact trace and diagonal: seconds, gradients, memory, and the error against the reference."""

from __future__ import annotations

from .networks import find_cost, gated, subject


class Engine:
    """256 examples, float32, nothing shared between calls."""

    version = "1"
    params = (["mlp", "lenet", "small-mlp", "small-cnn"],)
    param_names = ("network",)

    def setup(self, network: str) -> None:
        self.subject = subject(network, examples=256)
        try:
            from sharpbench.curvature import exact_diagonal, exact_traces
        except ImportError as error:
            raise NotImplementedError(str(error)) from error
        self.exact_traces, self.exact_diagonal, self.cost = exact_traces, exact_diagonal, find_cost()
        exact_traces(self.subject.fresh())  # captures the graph

    def time_exact_traces(self, network: str) -> None:
        self.exact_traces(self.subject.fresh())

    def time_exact_diagonal(self, network: str) -> None:
        self.exact_diagonal(self.subject.fresh())

    def track_gradients(self, network: str) -> float:
        return self.cost(self.exact_traces, self.subject).gradients

    def track_peak(self, network: str) -> int:
        return self.cost(self.exact_traces, self.subject).peak_bytes

    track_gradients.unit = "gradients"
    track_peak.unit = "bytes"


class PublicCall:
    """`measure("trace", subject)` on 1,024 examples in a plain script, against the targets in `curvature_peers.BARS`.

    Tracked are the gradients over their bar, and the bar of the lead on BackPACK over the lead: at most 1 where the
    target is met. A clock makes them, so they inform and do not gate.
    """

    version = "1"
    params = (["mlp", "small-mlp", "lenet", "small-cnn"],)
    param_names = ("network",)

    def setup_cache(self) -> dict[str, dict[str, float]]:
        """The medians of each network, once for both numbers; none where the commit lacks a public name."""
        try:
            from torch import set_num_threads

            from .curvature_peers import median_seconds, prepare
        except ImportError:
            return {}
        set_num_threads(1)  # the medians are of processor time, of all threads
        return {
            network: median_seconds(prepare(network, 1024, (32, 64, 128, 256, 1024), paper=False)[1], 5)
            for network in self.params[0]
        }

    setup_cache.timeout = 1800

    def setup(self, medians: dict[str, dict[str, float]], network: str) -> None:
        if not medians:
            raise NotImplementedError("this commit has no such call")

    def track_gradients_over_bar(self, medians: dict[str, dict[str, float]], network: str) -> float:
        from .curvature_peers import BARS

        return medians[network]["trace"] / medians[network]["gradient"] / BARS[network][0]

    def track_backpack_bar_over_lead(self, medians: dict[str, dict[str, float]], network: str) -> float:
        from .curvature_peers import BARS

        found = medians[network]
        return BARS[network][1] * found["trace"] / found.get("backpack", float("nan"))

    track_gradients_over_bar.unit = track_backpack_bar_over_lead.unit = "of the bar"


class Exactness:
    """float64, against one Hessian-vector product per parameter. The error is deterministic and gates."""

    version = "1"
    params = (["small-mlp", "small-cnn"],)
    param_names = ("network",)
    unit = "relative error"

    def setup(self, network: str) -> None:
        self.subject = subject(network, examples=4, dtype="float64")
        try:
            from sharpbench.curvature import exact_diagonal, exact_traces, reference_diagonal
        except ImportError as error:
            raise NotImplementedError(str(error)) from error
        self.exact_traces, self.exact_diagonal, self.reference_diagonal = (
            exact_traces,
            exact_diagonal,
            reference_diagonal,
        )

    def track_relative_error(self, network: str) -> float:
        """The larger of the errors of the trace and of the diagonal, the latter in the Euclidean norm."""
        reference = self.reference_diagonal(self.subject)
        diagonal = self.exact_diagonal(self.subject)
        size = sum(value.square().sum() for value in reference.values()).sqrt()
        off = sum((diagonal[key] - value).square().sum() for key, value in reference.items()).sqrt()
        exact = sum(float(value.sum()) for value in reference.values())
        trace = sum(self.exact_traces(self.subject).values())
        return gated(max(float(off / size), abs(trace - exact) / exact), 1e-9)
