"""`sharpbench publish`: makes the published leaderboard from the record files of a folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sharpbench.cli.exits import EXIT_FAILED
from sharpbench.errors import InvalidInput


def publish(
    results: Annotated[Path, typer.Option(help="Folder of record files; each NAME.jsonl is one collection.")] = Path(
        "leaderboard/results"
    ),
    submissions: Annotated[
        Path, typer.Option(help="Folder of submissions, NAME.jsonl with NAME.verdicts.jsonl; it may be missing.")
    ] = Path("leaderboard/submissions"),
    output: Annotated[Path, typer.Option(help="Folder of the pages and plots.")] = Path("leaderboard"),
    site: Annotated[Path | None, typer.Option(help="Folder of the site as HTML.", show_default="not written")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if a file differs from what the records give.")
    ] = False,
) -> int:
    """Make the leaderboard's pages and plots from records; the same records always give the same bytes.

    Exit status: 0 done, or with --check nothing to do; 1 --check found files that differ, are missing or are stale;
    2 bad usage, or records that cannot be trusted, with file and line.
    """
    if check and site is not None:
        raise InvalidInput("--check compares pages and plots, and --site writes HTML; give one of them")
    from sharpbench.cli.bars import announce_step
    from sharpbench.core.catalog import list_installed
    from sharpbench.leaderboard.board import make_leaderboard
    from sharpbench.leaderboard.collection import read_collections
    from sharpbench.leaderboard.entries import read_submitted
    from sharpbench.leaderboard.publish import generate_files, published_folder

    with announce_step("making the pages"):
        collections = read_collections(results)
        catalog = {row["name"]: row for row in list_installed("measures") if row["name"]}
        found = make_leaderboard(collections, catalog=catalog, submitted=read_submitted(submissions))
        wanted = generate_files(found)
        folder = published_folder(output)
        changed = folder.find_stale(wanted) if check else folder.update(wanted)
    for name, how in changed.items():
        done = "removed" if name not in wanted else "written"
        typer.echo(f"{output / name} {how if check else done}")
    if site is not None:
        from sharpbench.leaderboard.site.build import build_site
        from sharpbench.report.generated import write_files

        write_files(site, build_site(found), remedy="choose another --site")
        typer.echo(f"{site / 'index.html'} written")
    for name, count in found.left_out.items():
        typer.echo(f"{results / name}.jsonl: {count} records of single networks are left out", err=True)
    return EXIT_FAILED if check and changed else 0
