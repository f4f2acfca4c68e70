"""Sections: what the replay of Minimum Sharpness says, each a pure function of tables."""

from __future__ import annotations

import pandas as pd

from sharpbench.replays import figures
from sharpbench.replays.minimum_sharpness_2021.solver import SOLVER, by_noise
from sharpbench.replays.tables import Correlation, both_gates, side_by_side, table_correlations, with_loss
from sharpbench.report.format import MISSING, format_error, format_number
from sharpbench.report.page import Picture, Section

# Published: what the authors' archive says of speed, beside what is measured here.

SECONDS = {"small-mlp": (11.94, 0.0197), "small-cnn": (21.47, 0.336)}
"""Naive and proposed, n = 1,000, on a GPU of theirs: the mean of the first two of the archive's ten networks each."""


def speed_table(rows: pd.DataFrame, entries: pd.DataFrame) -> tuple[pd.DataFrame, str, pd.DataFrame, str]:
    """Accuracy, seconds, and a line on each."""
    accuracy = pd.DataFrame(
        {
            "network": row["model"],
            "parameters": f"{row['parameters']:,.0f}",
            "trace": format_number(row["trace"]),
            "error, exact": format_error(row["error_exact"]),
            "error, paper": format_error(row["error_paper"]),
            "error, paper in float64": format_error(row["error_paper_double"]),
            "largest error of an entry": format_error(_largest(entries[entries["model"] == row["model"]])),
        }
        for row in rows.to_dict("records")
    )
    seconds = pd.DataFrame(
        {
            "network": row["model"],
            "exact s": format_number(row["seconds_exact"]),
            "paper s": f"{format_number(row['seconds_paper'])} @{row['batch_paper']:.0f}",
            "naive s, scaled": format_number(row["seconds_naive"]),
            "paper / exact": format_number(row["seconds_paper"] / row["seconds_exact"]),
            "naive / exact": format_number(row["seconds_naive"] / row["seconds_exact"]),
            "naive / paper": format_number(row["seconds_naive"] / row["seconds_paper"]),
            "archive: naive / paper": _published(row["model"]),
        }
        for row in rows.to_dict("records")
    )
    return (
        accuracy,
        "The paper's algorithm subtracts two numbers that are nearly equal where a network is confident, and loses "
        "digits in float32; in float64 all agree. The last column is relative to the largest entry drawn.",
        seconds,
        "After @: the batch size. The archive's figures are of a GPU (naive 11.9 s and 21.5 s, proposed 0.020 s and "
        "0.34 s, the means of its first two networks of each kind): only ratios compare.",
    )


def _largest(entries: pd.DataFrame) -> float:
    """The largest |exact - naive| over the largest |naive|."""
    scale = float(entries["naive"].abs().max())
    return float((entries["exact"] - entries["naive"]).abs().max()) / (scale or 1.0)


def _published(model: str) -> str:
    if model not in SECONDS:
        return MISSING
    naive, proposed = SECONDS[model]
    return format_number(naive / proposed)


def diagonal_table(found: pd.DataFrame) -> pd.DataFrame:
    """A row for each network and kind: the error at each number of samples, and what the last makes of the measure."""
    rows = []
    for (model, kind), curve in found.groupby(["model", "kind"], sort=False):
        last = curve.iloc[-1]
        rows.append(
            {
                "network": str(model),
                "diagonal": str(kind),
                **{f"{row['samples']:,}": format_number(row["error"]) for row in curve.to_dict("records")},
                "negative": f"{last['negative']:.0%}",
                "normalized / exact": format_number(last["value"]),
                "seconds": format_number(last["seconds"]),
            }
        )
    return pd.DataFrame(rows)


ARCHIVED = {
    "minimum": "minimum sharpness",
    "normalized": "normalized sharpness",
    "label_noise": "(label noise)",
    "train_loss": "(training loss)",
}
HERE = {
    "minimum": "minimum, converged",
    SOLVER: "minimum, as the paper's solver leaves it",
    "normalized": "normalized, converged",
    "trace": "trace",
    "label_noise": "(label noise)",
    "train_loss": "(training loss)",
    "parameter_norm": "(parameter norm)",
}


def of_the_archive(published: pd.DataFrame) -> Section:
    """Correlations of the archive, with and without the gate, and who is excluded."""
    columns = list(ARCHIVED)
    free, gated = (table_correlations(published, columns, gated=gate) for gate in (False, True))
    left = published[~published["fitted"]]
    names = ", ".join(
        f"trial {row.trial} at label noise {row.label_noise:g} (training accuracy {row.train_accuracy:.2f})"
        for row in left.itertuples()
    )
    return Section(
        "The archive",
        (
            "Kendall's tau with the generalization gap on the 220 networks that the authors published, by our "
            "statistics: over all networks, and the mean within networks of equal label noise; [95 % intervals]. "
            "Baselines in parentheses.",
            both_gates(free, gated, ARCHIVED),
            f"*Fitted*: without the {len(left)} perceptrons that never left chance, {names}. Every other network has a "
            "training accuracy of at least 0.99.",
            "What one knows before training, the label noise, orders the networks better than either measure. With it "
            "held fixed there is something left on the MLP and next to nothing on LeNet.",
        ),
    )


def correlation(published: pd.DataFrame, table: pd.DataFrame, title: str) -> Section:
    """Correlations here beside the archive's, and both in figures; title: the size of what is here."""
    ratios = sorted(table["label_noise"].round(6).unique())
    alike = published[published["label_noise"].round(6).isin(ratios)]
    archived = [SOLVER, *ARCHIVED]
    whole, same = (table_correlations(each, archived, gated=True) for each in (published, alike))
    here = table_correlations(table, list(HERE), gated=True)
    excluded = int((~table["fitted"]).sum())

    def panels(theirs: str, *ours: tuple[str, str]) -> list[list[figures.Panel]]:
        return [
            [
                figures.Panel(f"{model}, archive", published[published["model"] == model], theirs),
                *(figures.Panel(f"{model}, {words}", table[table["model"] == model], name) for name, words in ours),
            ]
            for model in table["model"].unique()
        ]

    return Section(
        "From scratch: correlation with the gap (Figures 2 and 4)",
        (
            f"Size: {title}. {len(table)} networks, {excluded} excluded as not fitted; from here on the gate holds, in "
            "the archive too.",
            side_by_side(whole, same, here, HERE),
            "The two minima are not the same quantity: the archive holds what its solver leaves. Its normalized "
            "sharpness comes from the same kind of solver and is, on the MLP, numerically the sum of squared weights; "
            "the baseline (parameter norm) is what to compare it with.",
            "A likely reason, beside the smaller data: in the archive all networks trained for the same number of "
            "epochs, and the noisier the labels, the higher the training loss at the end; here all stop at one "
            "training loss. The curvature of a fitted network shrinks with its loss. Kendall's tau with the *training "
            "loss* in place of the gap:",
            with_loss(*(_by_loss(each) for each in (published, table)), names=ARCHIVED),
            Picture(
                "minimum",
                "Minimum sharpness against the gap: the archive, the paper's solver here, converged here",
                lambda: figures.against_gap(
                    panels("minimum", (SOLVER, "paper's solver"), ("minimum", "converged")), label="minimum sharpness"
                ),
            ),
            Picture(
                "normalized",
                "Normalized sharpness against the gap: the archive, and converged here",
                lambda: figures.against_gap(
                    panels("normalized", ("normalized", "converged")), label="normalized sharpness"
                ),
            ),
        ),
    )


def _by_loss(table: pd.DataFrame) -> list[Correlation]:
    """Correlations with the training loss where the gap usually stands."""
    return table_correlations(
        table.assign(gap=table["train_loss"]), ["minimum", "normalized", "label_noise"], gated=True
    )


def convergence(table: pd.DataFrame) -> Section:
    """The certified minimum beside what the paper's solver makes of the same traces."""
    return Section(
        "Converged, and as the paper's solver leaves it",
        (
            "The archive's minimum sharpness is no minimum: its solver takes 10,000 steps of gradient descent, of size "
            "1e-3 and falling, on traces that sum to 1, and stops on the way. Here that solver, implemented anew from "
            "its description, is given the traces of the same networks as the convex solve, whose duality gap "
            "certifies the minimum. Medians over the fitted networks:",
            by_noise(table[table["fitted"]]),
        ),
    )


def traces(found: pd.DataFrame) -> Section:
    """Accuracy and speed of three ways to the trace."""
    rows, entries = found[found["kind"] == "network"], found[found["kind"] == "entry"]
    examples, drawn = int(rows["examples"].iloc[0]), int(rows["entries"].iloc[0])
    return Section(
        "From scratch: trace accuracy and speed (Figure 1 and the table)",
        (
            f"The trace of the Hessian on {examples:,} training images at the weights of the network without label "
            "noise, seed 0. *Exact*: this package. *Paper*: the authors' C + 1 passes by example, at the fastest of "
            "three batch sizes, implemented anew. *Naive*: double backward, an entry of the diagonal a pass; it was "
            f"timed on a random {drawn} parameters and scaled up to all of them. Errors are relative, of float32 "
            "against the exact trace in float64, which Figure 1 compares entry by entry with double backward.",
            *speed_table(rows, entries),
            Picture(
                "figure-1",
                "Entries of the Hessian's diagonal: by the exact pass against double backward, float64",
                lambda: figures.entries(entries),
            ),
        ),
    )


def diagonals(found: pd.DataFrame) -> Section:
    """Errors of both approximate diagonals."""
    return Section(
        "From scratch: both approximate diagonals over samples (Figure 3)",
        (
            "The error |D' - D| / |D| of the two published approximations of the Hessian's diagonal, in float64, in "
            "steps of 1e-5. *arxiv*: absolute steps along N(0, I). *icml*: steps relative to |theta| along random "
            "signs, divided by what was stepped; the authors' script divides by |theta| without having stepped by it, "
            "so that its Figure 3 (right) does not show this estimator. An error of 1 (dotted) is what an estimate of "
            "0 everywhere would have.",
            diagonal_table(found),
            Picture(
                "figure-3",
                "Relative error of the approximate diagonals over the number of samples",
                lambda: figures.errors(found),
            ),
        ),
    )
