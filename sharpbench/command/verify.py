"""`sharpbench verify`: a sample of a submission's cells, recomputed here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.command.status import EXIT_CLAIMED, EXIT_INTERRUPTED, EXIT_REFUTED
from sharpbench.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sharpbench.leaderboard.submissions import Finding, Submission, Verdict
    from sharpbench.training.population import Training


def verify(
    file: Annotated[Path, typer.Argument(help="A file of `submit`.")],
    sample: Annotated[int, typer.Option(help="How many cells, every measure in turn.")] = 12,
    seed: Annotated[int, typer.Option(help="Which ones.")] = 0,
    cell: Annotated[
        list[str] | None, typer.Option(help="This one instead, by the beginning of its key; may be repeated.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="After so long no other cell begins.", show_default="no limit")
    ] = None,
    record: Annotated[
        bool, typer.Option("--record", help="Append the verdict to NAME.verdicts.jsonl beside the file.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, the verdict, instead of a table.")] = False,
    data_dir: Annotated[Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_DATA")] = None,
    cache_dir: Annotated[
        Path | None, typer.Option(help="As for run.", show_default="$SHARPBENCH_CACHE, else the user's cache")
    ] = None,
    plugin: Annotated[list[Path] | None, typer.Option(help="As for run; it is executed.")] = None,
) -> int:
    """Recompute a sample of a submission's cells: train their networks, or take them from the cache, and compare.

    Nothing in the file is executed; what is not installed here cannot be verified. Cells that a verdict in the folder
    of the file refuted make up to half of the sample. Exit status: 0 verified, 2 bad input, 3 claimed (nothing could be
    compared here), 4 refuted, 130 interrupted; 1 is none of these: verify itself failed.
    """
    if sample < 1:
        raise InvalidInput(f"sample={sample} must be at least 1")
    if minutes is not None and not minutes > 0:
        raise InvalidInput(f"minutes={minutes} must be above 0")
    from sharpbench.files import cache_folder, data_folder
    from sharpbench.leaderboard.submissions import (
        Setting,
        append,
        doubted,
        draw,
        installed,
        named,
        read,
        verdicts_in,
        verdicts_path,
    )
    from sharpbench.leaderboard.submissions import verify as recompute

    submission = read(file)
    known = installed(tuple(plugin or ()))
    if cell:
        drawn = named(submission, cell, known)
    else:
        before = [verdict for found in verdicts_in(file.parent).values() for verdict in found]
        drawn = draw(submission, sample=sample, seed=seed, known=known, doubted=doubted(before))
    setting = Setting(
        cache=cache_folder(cache_dir),
        known=known,
        data_dir=data_folder(data_dir),
        seconds=math.inf if minutes is None else 60 * minutes,
    )
    try:
        findings = _findings(recompute(submission, drawn, setting))
    except KeyboardInterrupt:
        typer.echo("interrupted; nothing was recorded", err=True)
        return EXIT_INTERRUPTED
    verdict = _verdict(submission, findings, seed=seed, sample=len(drawn.cells))
    if record:
        append(verdicts_path(file), verdict)
    if as_json:
        typer.echo(verdict.to_json())
    else:
        from rich.console import Console

        from sharpbench.report.verdict import show

        show(verdict, Console())
    return {"verified": 0, "refuted": EXIT_REFUTED, "claimed": EXIT_CLAIMED}[verdict.state]


def _findings(steps: Iterator[Training | Finding]) -> tuple[Finding, ...]:
    """The findings; a line on stderr for each network that begins its training."""
    from sharpbench.leaderboard.submissions import Finding

    found: list[Finding] = []
    seen: set[str] = set()
    for step in steps:
        if isinstance(step, Finding):
            found.append(step)
        elif step.recipe.title not in seen:
            seen.add(step.recipe.title)
            typer.echo(f"training {step.recipe.title}", err=True)
    return tuple(found)


def _verdict(submission: Submission, findings: tuple[Finding, ...], *, seed: int, sample: int) -> Verdict:
    import datetime

    from sharpbench.environment import environment, resolve_device
    from sharpbench.leaderboard.submissions import Verdict

    return Verdict(
        name=submission.manifest.name,
        sha256=submission.sha256,
        seed=seed,
        sample=sample,
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        environment=environment(resolve_device("auto")),
        findings=findings,
    )
