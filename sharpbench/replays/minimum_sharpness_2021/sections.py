"""The sections of the replay's page, each a pure function of tables."""

from __future__ import annotations

import pandas as pd

from sharpbench.replays import figures
from sharpbench.replays.minimum_sharpness_2021.solver import SOLVER_COLUMN, noise_table
from sharpbench.replays.tables import GapCorrelation, archive_table, compute_correlations, gating_table, loss_table
from sharpbench.report.format import MISSING, format_error, format_number
from sharpbench.report.page import Picture, Section

ARCHIVE_SECONDS = {"small-mlp": (11.94, 0.0197), "small-cnn": (21.47, 0.336)}
"""Seconds of double backward and of the proposed algorithm on the authors' GPU, n = 1,000: means of two networks."""


def speed_table(rows: pd.DataFrame, entries: pd.DataFrame) -> tuple[pd.DataFrame, str, pd.DataFrame, str]:
    """The table of accuracy and the table of seconds, each with its footnote."""
    accuracy = pd.DataFrame(
        {
            "network": row["model"],
            "parameters": f"{row['parameters']:,.0f}",
            "trace": format_number(row["trace"]),
            "error, exact": format_error(row["error_exact"]),
            "error, paper": format_error(row["error_paper"]),
            "error, paper in float64": format_error(row["error_paper_double"]),
            "largest error of an entry": format_error(_largest_entry_error(entries[entries["model"] == row["model"]])),
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
            "archive: naive / paper": _format_archive_ratio(row["model"]),
        }
        for row in rows.to_dict("records")
    )
    return (
        accuracy,
        "The paper's algorithm subtracts two numbers that are nearly equal where a network is confident, and loses "
        "digits in float32; in float64 all agree. The last column is relative to the largest entry drawn.",
        seconds,
        "After @: the batch size. The archive's figures are from a GPU (naive 11.9 s and 21.5 s, proposed 0.020 s and "
        "0.34 s, the means of its first two networks of each kind): only ratios compare.",
    )


def _largest_entry_error(entries: pd.DataFrame) -> float:
    """The largest |exact - naive| over the largest |naive|."""
    scale = float(entries["naive"].abs().max())
    return float((entries["exact"] - entries["naive"]).abs().max()) / (scale or 1.0)


def _format_archive_ratio(model: str) -> str:
    if model not in ARCHIVE_SECONDS:
        return MISSING
    naive, proposed = ARCHIVE_SECONDS[model]
    return format_number(naive / proposed)


def diagonal_table(found: pd.DataFrame) -> pd.DataFrame:
    """One row per network and approximation: the error at each number of samples, and the resulting measure."""
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


ARCHIVE_COLUMNS = {
    "minimum": "minimum sharpness",
    "normalized": "normalized sharpness",
    "label_noise": "(label noise)",
    "train_loss": "(training loss)",
}
REPLAY_COLUMNS = {
    "minimum": "minimum, converged",
    SOLVER_COLUMN: "minimum, as the paper's solver leaves it",
    "normalized": "normalized, converged",
    "trace": "trace",
    "label_noise": "(label noise)",
    "train_loss": "(training loss)",
    "parameter_norm": "(parameter norm)",
}


def archive_section(published: pd.DataFrame) -> Section:
    """Correlations of the archive, over all networks and over those that fitted, and which networks did not."""
    columns = list(ARCHIVE_COLUMNS)
    free, gated = (compute_correlations(published, columns, gated=gate) for gate in (False, True))
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
            gating_table(free, gated, ARCHIVE_COLUMNS),
            f"*Fitted*: without the {len(left)} perceptrons that never left chance, {names}. Every other network has a "
            "training accuracy of at least 0.99.",
            "The label noise, which is known before training, orders the networks better than either measure. At equal "
            "label noise some correlation remains on the MLP and almost none on LeNet.",
        ),
    )


def correlation_section(published: pd.DataFrame, table: pd.DataFrame, title: str) -> Section:
    """Correlations here next to the archive's, and both in figures.

    Args:
        published: the archive.
        table: the networks of this replay.
        title: the size of the experiment in words.
    """
    ratios = sorted(table["label_noise"].round(6).unique())
    alike = published[published["label_noise"].round(6).isin(ratios)]
    archived = [SOLVER_COLUMN, *ARCHIVE_COLUMNS]
    whole, same = (compute_correlations(each, archived, gated=True) for each in (published, alike))
    here = compute_correlations(table, list(REPLAY_COLUMNS), gated=True)
    excluded = int((~table["fitted"]).sum())

    def panels(theirs: str, *ours: tuple[str, str]) -> list[list[figures.ScatterPanel]]:
        return [
            [
                figures.ScatterPanel(f"{model}, archive", published[published["model"] == model], theirs),
                *(
                    figures.ScatterPanel(f"{model}, {words}", table[table["model"] == model], name)
                    for name, words in ours
                ),
            ]
            for model in table["model"].unique()
        ]

    return Section(
        "From scratch: correlation with the gap (Figures 2 and 4)",
        (
            f"Size: {title}. {len(table)} networks, {excluded} excluded as not fitted. From here on only fitted "
            "networks are counted, also in the archive.",
            archive_table(whole, same, here, REPLAY_COLUMNS),
            "The two minima are not the same quantity: the archive holds the value that its solver leaves. Its "
            "normalized sharpness comes from the same kind of solver and is, on the MLP, numerically the sum of "
            "squared weights; the baseline (parameter norm) is what to compare it with.",
            "A likely reason, in addition to the smaller data: in the archive all networks trained for the same "
            "number of epochs, and the noisier the labels, the higher the training loss at the end; here all stop at "
            "one training loss. The curvature of a fitted network shrinks with its loss. Kendall's tau with the "
            "*training loss* in place of the gap:",
            loss_table(*(_loss_correlations(each) for each in (published, table)), names=ARCHIVE_COLUMNS),
            Picture(
                "minimum",
                "Minimum sharpness against the gap: the archive, the paper's solver here, converged here",
                lambda: figures.draw_against_gap(
                    panels("minimum", (SOLVER_COLUMN, "paper's solver"), ("minimum", "converged")),
                    label="minimum sharpness",
                ),
            ),
            Picture(
                "normalized",
                "Normalized sharpness against the gap: the archive, and converged here",
                lambda: figures.draw_against_gap(
                    panels("normalized", ("normalized", "converged")), label="normalized sharpness"
                ),
            ),
        ),
    )


def _loss_correlations(table: pd.DataFrame) -> list[GapCorrelation]:
    """Correlations with the training loss instead of the gap."""
    return compute_correlations(
        table.assign(gap=table["train_loss"]), ["minimum", "normalized", "label_noise"], gated=True
    )


def convergence_section(table: pd.DataFrame) -> Section:
    """The certified minimum next to the value that the paper's solver leaves on the same traces."""
    return Section(
        "Converged, and as the paper's solver leaves it",
        (
            "The archive's minimum sharpness is not a minimum: its solver takes 10,000 steps of gradient descent, of "
            "size 1e-3 and falling, on traces that sum to 1, and stops before it converges. Here that solver, "
            "implemented from its description, gets the traces of the same networks as the convex solver, whose "
            "duality gap certifies the minimum. Medians over the fitted networks:",
            noise_table(table[table["fitted"]]),
        ),
    )


def trace_section(found: pd.DataFrame) -> Section:
    """Accuracy and speed of three algorithms for the trace."""
    rows, entries = found[found["kind"] == "network"], found[found["kind"] == "entry"]
    examples, drawn = int(rows["examples"].iloc[0]), int(rows["entries"].iloc[0])
    return Section(
        "From scratch: trace accuracy and speed (Figure 1 and the table)",
        (
            f"The trace of the Hessian on {examples:,} training images at the weights of the network without label "
            "noise, seed 0. *Exact*: this package. *Paper*: the authors' C + 1 passes by example, at the fastest of "
            "three batch sizes, implemented again. *Naive*: double backward, one pass per entry of the diagonal; it "
            f"was timed on a random {drawn} parameters and scaled up to all of them. Errors are relative, of float32 "
            "against the exact trace in float64, which Figure 1 compares entry by entry with double backward.",
            *speed_table(rows, entries),
            Picture(
                "figure-1",
                "Entries of the Hessian's diagonal: by the exact pass against double backward, float64",
                lambda: figures.draw_entries(entries),
            ),
        ),
    )


def diagonal_section(found: pd.DataFrame) -> Section:
    """Errors of both approximate diagonals over the number of samples."""
    return Section(
        "From scratch: both approximate diagonals over samples (Figure 3)",
        (
            "The error |D' - D| / |D| of the two published approximations of the Hessian's diagonal, in float64, in "
            "steps of 1e-5. *arxiv*: absolute steps along N(0, I). *icml*: steps relative to |theta| along random "
            "signs, divided by the step; the authors' script divides by |theta| without stepping by it, so that its "
            "Figure 3 (right) does not show this estimator. An error of 1 (dotted) is the error of an estimate that is "
            "0 everywhere.",
            diagonal_table(found),
            Picture(
                "figure-3",
                "Relative error of the approximate diagonals over the number of samples",
                lambda: figures.draw_errors(found),
            ),
        ),
    )
