"""`sharpbench verify`: recomputes a sample of a submission's cells."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from sharpbench.cli.exits import EXIT_CLAIMED, EXIT_REFUTED, Interrupted
from sharpbench.cli.options import CacheDirOption, DataDirOption, PluginOption
from sharpbench.cli.streams import escape_json
from sharpbench.cli.tables import ColumnKind, open_table
from sharpbench.errors import InvalidInput
from sharpbench.report.format import MISSING, format_error, plain_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sharpbench.leaderboard.submissions import Finding, Submission, Verdict
    from sharpbench.training.population import TrainingEpoch


def verify(
    file: Annotated[Path, typer.Argument(help="A file written by `submit`.")],
    sample: Annotated[int, typer.Option(help="Number of cells to recompute, drawn evenly from the measures.")] = 12,
    seed: Annotated[int, typer.Option(help="Seed of the cells that are drawn.")] = 0,
    cell: Annotated[
        list[str] | None,
        typer.Option(
            help="Recompute this cell instead of a sample, named by the beginning of its key. May be repeated.",
            show_default="a sample",
        ),
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes after which no further cell begins.", show_default="no limit")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Append the verdict to NAME.verdicts.jsonl next to the file.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the verdict as one JSON object instead of a table.")
    ] = False,
    data_dir: DataDirOption = None,
    cache_dir: CacheDirOption = None,
    plugin: PluginOption = None,
) -> int:
    """Recompute a sample of a submission's cells: train their networks, or take them from the cache, and compare.

    Nothing in the file is executed; measures and models that are not installed here cannot be verified. Up to half of
    the sample are cells that an earlier verdict in the folder of the file refuted. Exit status: 0 verified, 2 bad
    input, 3 claimed (nothing could be compared here), 4 refuted, 130 interrupted, 1 verify itself failed.
    """
    if sample < 1:
        raise InvalidInput(f"sample={sample} must be at least 1")
    if minutes is not None and not minutes > 0:
        raise InvalidInput(f"minutes={minutes} must be above 0")
    from sharpbench.files import Workspace
    from sharpbench.leaderboard.submissions import (
        VerificationSetting,
        append_verdict,
        draw_cells,
        find_installed,
        read_folder_verdicts,
        read_submission,
        refuted_places,
        select_cells,
        verdicts_path,
    )
    from sharpbench.leaderboard.submissions import verify_submission as recompute

    submission = read_submission(file)
    known = find_installed(tuple(plugin or ()))
    if cell:
        drawn = select_cells(submission, cell, known)
    else:
        before = [verdict for found in read_folder_verdicts(file.parent).values() for verdict in found]
        drawn = draw_cells(submission, sample=sample, seed=seed, known=known, doubted=refuted_places(before))
    setting = VerificationSetting(
        workspace=Workspace.locate(cache_dir=cache_dir, data_dir=data_dir),
        known=known,
        seconds=math.inf if minutes is None else 60 * minutes,
    )
    try:
        findings = _findings(recompute(submission, drawn, setting))
    except KeyboardInterrupt:
        raise Interrupted("; nothing was recorded") from None
    verdict = _verdict(submission, findings, seed=seed, sample=len(drawn.cells))
    if record:
        append_verdict(verdicts_path(file), verdict)
    if as_json:
        typer.echo(escape_json(verdict.to_json()))
    else:
        from rich.console import Console

        show_verdict(verdict, Console())
    return {"verified": 0, "refuted": EXIT_REFUTED, "claimed": EXIT_CLAIMED}[verdict.state]


def _findings(steps: Iterator[TrainingEpoch | Finding]) -> tuple[Finding, ...]:
    """The findings, after a line on stderr for each network that begins its training."""
    from sharpbench.leaderboard.submissions import Finding

    findings: list[Finding] = []
    announced: set[str] = set()
    for step in steps:
        if isinstance(step, Finding):
            findings.append(step)
        elif step.recipe.title not in announced:
            announced.add(step.recipe.title)
            typer.echo(f"training {step.recipe.title}", err=True)
    return tuple(findings)


def _verdict(submission: Submission, findings: tuple[Finding, ...], *, seed: int, sample: int) -> Verdict:
    import datetime

    from sharpbench.environment import describe_environment, resolve_device
    from sharpbench.leaderboard.submissions import Verdict

    return Verdict(
        name=submission.manifest.name,
        sha256=submission.sha256,
        seed=seed,
        sample=sample,
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        environment=describe_environment(resolve_device("auto")),
        findings=findings,
    )


FILE_COLUMNS = 140
"""Width of a table that is not printed to a terminal."""
WORDS = {
    "verified": "verified: every value that could be compared agrees",
    "claimed": "claimed: no value could be compared here",
    "refuted": "refuted",
}


def show_verdict(verdict: Verdict, console: Console) -> None:
    """Print one row per number, claimed and found, the reasons, and the state of the submission."""
    if not console.is_terminal:
        console = Console(file=console.file, width=max(FILE_COLUMNS, console.width))
    columns: dict[str, ColumnKind] = {
        "network": "text", "number": "text",
        "claimed": "number", "found": "number", "difference": "number", "bound": "number",
        "": "name",
    }  # fmt: skip
    table = open_table(None, columns)
    for finding in verdict.findings:
        table.add_row(*map(Text, _row(finding)))
    console.print(table, crop=False)
    for line in (*_reasons(verdict), summary(verdict)):
        console.print(Text(plain_text(line, 400)), soft_wrap=True)


def summary(verdict: Verdict) -> str:
    """One line with the state of the submission and the number of values that were compared."""
    counts = dict.fromkeys(("agrees", "differs", "parted", "unknown"), 0)
    for finding in verdict.findings:
        counts[finding.outcome] += finding.what == "value"
    others = sum(finding.what != "value" and finding.outcome == "differs" for finding in verdict.findings)
    compared = (
        f"{counts['agrees']} values agree, {counts['differs']} differ, {counts['parted']} stand on networks that part "
        f"in training, {counts['unknown']} could not be recomputed"
    ) + (f"; {others} other numbers differ" if others else "")
    return f"{verdict.name} is {WORDS[verdict.state]}; {compared}"


def _row(finding: Finding) -> tuple[str, ...]:
    number = plain_text(finding.label, 60) if finding.what == "value" else plain_text(finding.what, 30)
    off = MISSING if finding.difference is None else format_error(finding.difference)
    values = (_number(finding.claimed), _number(finding.found), off)
    bound = MISSING if finding.bound is None else format_error(finding.bound)
    return plain_text(finding.network, 80), number, *values, bound, finding.outcome


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.8g}"


def _reasons(verdict: Verdict) -> list[str]:
    """One line per reason, with the numbers that it concerns."""
    numbers: dict[str, list[str]] = {}
    for finding in verdict.findings:
        if finding.reason:
            number = finding.label if finding.what == "value" else finding.what
            numbers.setdefault(f"{finding.outcome}: {finding.reason}", []).append(number)
    return [f"{', '.join(dict.fromkeys(labels))}: {reason}" for reason, labels in numbers.items()]
