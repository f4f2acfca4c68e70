"""`sharpbench verify`: recomputes a sample of a submission's cells."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

from sharpbench.cli.exits import EXIT_CLAIMED, EXIT_REFUTED, EXIT_UNFINISHED, Interrupted
from sharpbench.cli.options import CacheDirOption, DataDirOption, PluginOption
from sharpbench.cli.streams import escape_json
from sharpbench.cli.tables import ColumnKind, open_table
from sharpbench.errors import InvalidInput
from sharpbench.report.format import MISSING, format_error, plain_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sharpbench.leaderboard.submissions import CellSample, Compared, Finding, Submission, Verdict
    from sharpbench.training.population import TrainingProgress


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
        float | None, typer.Option(help="Minutes after which verification is ended.", show_default="no limit")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds that a cell may take, and the training of the networks of a group.")
    ] = 900.0,
    memory_limit: Annotated[
        str | None,
        typer.Option(
            help="Memory that the process may take, such as 8GiB.", show_default="three quarters of what is free"
        ),
    ] = None,
    record: Annotated[
        bool,
        typer.Option(
            "--record",
            help="Append each finding to NAME.verdicts.jsonl next to the file at once. The same command resumes.",
        ),
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
    the sample are cells that an earlier verdict in the folder of the file refuted. All is computed in another process,
    which is ended where it exceeds a limit. Exit status: 0 verified, 1 verify itself failed, 2 bad input, 3 claimed
    (too few values could be compared here), 4 refuted, 5 unfinished (a limit of time or memory was reached), 130
    interrupted.
    """
    if sample < 1:
        raise InvalidInput(f"sample={sample} must be at least 1")
    if minutes is not None and not minutes > 0:
        raise InvalidInput(f"minutes={minutes} must be above 0")
    from sharpbench.cli.bars import follow_steps
    from sharpbench.files import Workspace
    from sharpbench.leaderboard.submissions import (
        VerificationSetting,
        draw_cells,
        find_installed,
        read_folder_verdicts,
        read_submission,
        refuted_places,
        select_cells,
        verdicts_path,
        verify_with_limits,
    )
    from sharpbench.runner.engines.limits import Limits

    submission = read_submission(file)
    limits = Limits(timeout=timeout, memory=_memory_limit(memory_limit))
    workspace = Workspace.locate(cache_dir=cache_dir, data_dir=data_dir, plugins=tuple(plugin or ()))
    known = find_installed(workspace.plugins)
    empty = _empty_verdict(submission, seed=seed, sample=sample)
    report = _Report(empty, verdicts_path(file) if record else None)
    if cell:
        drawn = select_cells(submission, cell, known)
        report.verdict = replace(empty, sample=len(drawn.cells))
    else:
        before = [verdict for found in read_folder_verdicts(file.parent).values() for verdict in found]
        others = [verdict for verdict in before if not (record and verdict.is_of_sample(empty))]
        drawn = draw_cells(submission, sample=sample, seed=seed, known=known, doubted=refuted_places(others))
        drawn = report.resume(drawn, before) if record else drawn
    setting = VerificationSetting(workspace=workspace, known=known, memory=limits.memory)
    seconds = math.inf if minutes is None else 60 * minutes
    try:
        steps = verify_with_limits(submission, drawn, setting, limits, seconds=seconds)
        for step in follow_steps(steps, report.describe, start=f"starting to recompute {len(drawn.cells)} cells"):
            report.add(step)
    except KeyboardInterrupt:
        raise Interrupted(report.interruption) from None
    verdict = report.verdict
    if as_json:
        typer.echo(escape_json(verdict.to_json()))
    else:
        from rich.console import Console

        show_verdict(verdict, Console())
    return EXIT_STATUSES[verdict.state]


def _memory_limit(text: str | None) -> int | None:
    """The number of bytes; where none is given, a share of the memory that is free, if the system tells it."""
    import torch

    from sharpbench.environment import free_bytes
    from sharpbench.runner.engines.limits import MIN_MEMORY_BYTES, parse_bytes

    if text is not None:
        return parse_bytes(text)
    free = free_bytes(torch.device("cpu"))
    return None if free is None else max(MIN_MEMORY_BYTES, int(MAX_MEMORY_SHARE * free))


def _empty_verdict(submission: Submission, *, seed: int, sample: int) -> Verdict:
    from sharpbench.core.record import utc_now
    from sharpbench.environment import describe_environment, resolve_device
    from sharpbench.leaderboard.submissions import Verdict

    return Verdict(
        name=submission.manifest.name,
        sha256=submission.sha256,
        seed=seed,
        sample=sample,
        time=utc_now(),
        environment=describe_environment(resolve_device("auto")),
        findings=(),
    )


@dataclass
class _Report:
    """The verdict as it grows. Each finding is on disk before the next cell begins, where there is a path."""

    verdict: Verdict
    path: Path | None
    announced: set[str] = field(default_factory=set)

    def resume(self, drawn: CellSample, before: Sequence[Verdict]) -> CellSample:
        """Take over what an interrupted `verify --record` of the sample found; the cells that are left."""
        from sharpbench.leaderboard.submissions import recorded_findings

        found = recorded_findings(before, self.verdict)
        done = {finding.key for finding in found if finding.what == "value"}
        left = tuple(cell for cell in drawn.cells if cell.record.key not in done)
        if len(left) < len(drawn.cells):
            typer.echo(f"{len(drawn.cells) - len(left)} of {len(drawn.cells)} cells are recorded already", err=True)
        self.verdict = replace(self.verdict, findings=tuple(dict.fromkeys(found)))
        return replace(drawn, cells=left)

    def add(self, step: TrainingProgress | Compared) -> None:
        """Record findings; print a line on stderr for each network that begins its training."""
        from sharpbench.leaderboard.submissions import Compared, append_verdict

        if isinstance(step, Compared):
            if self.path is not None:
                append_verdict(self.path, replace(self.verdict, findings=step.findings, unfinished=step.unfinished))
            findings, unfinished = self.verdict.findings + step.findings, self.verdict.unfinished + step.unfinished
            self.verdict = replace(self.verdict, findings=findings, unfinished=unfinished)
        elif step.recipe.title not in self.announced:
            self.announced.add(step.recipe.title)
            typer.echo(f"training {step.recipe.title}", err=True)

    @staticmethod
    def describe(step: TrainingProgress | Compared) -> str:
        """What is being done at the time of the step."""
        from sharpbench.leaderboard.submissions import Compared

        return "comparing values" if isinstance(step, Compared) else f"training {step.recipe.title}"

    @property
    def interruption(self) -> str:
        """What an interrupt leaves behind, in words."""
        if self.path is None:
            return "; nothing was recorded"
        return f"; {len(self.verdict.findings)} findings are in {self.path}; give the same command again to go on"


FILE_COLUMNS = 140
"""Width of a table that is not printed to a terminal."""
MAX_MEMORY_SHARE = 0.75
"""Share of the free memory that verification may take where no limit is given."""
EXIT_STATUSES = {"verified": 0, "claimed": EXIT_CLAIMED, "refuted": EXIT_REFUTED, "unfinished": EXIT_UNFINISHED}
WORDS = {
    "verified": "verified: at least nine of ten values agree, and no number differs",
    "claimed": "claimed: fewer than nine of ten values could be compared here",
    "refuted": "refuted: a number differs",
    "unfinished": "unfinished: a limit of time or memory was reached, see --timeout, --memory-limit and --minutes",
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
        f"{counts['agrees']} values agree, {counts['differs']} differ, {counts['parted']} are of networks that part "
        f"in training, {counts['unknown']} could not be recomputed"
    )
    compared += f" ({verdict.unfinished} because of a limit)" if verdict.unfinished else ""
    compared += f"; {others} other numbers differ" if others else ""
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
