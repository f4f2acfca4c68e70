"""A hook of mkdocs: the repository's pages under their own addresses, and the leaderboard's site, as one site.

Links between pages are those of the repository, so nothing is written twice. The first page is the leaderboard's;
README.md is at readme.html.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

from sharpbench.core.catalog import list_installed
from sharpbench.leaderboard.board import make_leaderboard
from sharpbench.leaderboard.collection import read_collections
from sharpbench.leaderboard.entries import read_submitted
from sharpbench.leaderboard.site.build import build_site

ROOT = Path(__file__).parents[1]
PATTERNS = (
    "*.md",
    "CITATION.cff",
    "docs/**/*",
    "leaderboard/**/*.md",
    "leaderboard/**/*.svg",
    "measures/*.md",
    "examples/**/*.md",
    "sharpbench/replays/*/data/*.md",
)
SUFFIXES = {".md", ".css", ".js", ".cff", ".svg", ".png", ".json"}
RESULTS = ROOT / "leaderboard" / "results"
SUBMISSIONS = ROOT / "leaderboard" / "submissions"
BOARD = "board/index.html"
LINKED = {"README.md": BOARD, "leaderboard/README.md": f"../{BOARD}", "docs/leaderboard.md": f"../{BOARD}"}
"""Pages that lead to the interactive board."""
FIRST, HOME = "README.md", "readme.html"
"""The repository's first page, and its address next to the first page of the leaderboard."""
PAGES = {
    "All measures": "README",
    "Correlation": "correlation",
    "Exactness": "exactness",
    "Speed": "speed",
    "Invariance": "invariance",
    "Submissions": "submissions",
}
log = logging.getLogger("mkdocs.hooks.gather")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The configuration with the published pages of the leaderboard in its navigation."""
    section = next(entry["Leaderboard"] for entry in config.nav or [] if "Leaderboard" in entry)
    addresses = {title: f"leaderboard/{name}.md" for title, name in PAGES.items()}
    section[:0] = [{title: address} for title, address in addresses.items() if (ROOT / address).exists()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The pages of the whole repository instead of those of docs only, and the site of the leaderboard."""
    for file in [file for file in files if file.src_dir == config.docs_dir]:
        files.remove(file)
    pages = _board()
    for path in _sources():
        address = HOME if path == FIRST and pages else None
        files.append(File(path, str(ROOT), config.site_dir, use_directory_urls=False, dest_uri=address))
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """The first pages lead to the board."""
    target = LINKED.get(page.file.src_uri)
    if target is None or files.get_file_from_path(BOARD) is None:
        return markdown
    head, break_, rest = markdown.partition("\n\n")
    return f"{head}{break_}**[The interactive board]({target})**: sort, filter, and see every network.\n\n{rest}"


def _sources() -> Iterator[str]:
    found = {path for pattern in PATTERNS for path in ROOT.glob(pattern)}
    yield from sorted(path.relative_to(ROOT).as_posix() for path in found if path.is_file() and path.suffix in SUFFIXES)


def _board() -> dict[str, str]:
    """The files of the leaderboard's site, none where no results are published."""
    if not RESULTS.is_dir():
        log.info("no interactive board: %s is not there", RESULTS)
        return {}
    catalog = {row["name"]: row for row in list_installed("measures") if row["name"]}
    sent = read_submitted(SUBMISSIONS)
    return build_site(make_leaderboard(read_collections(RESULTS), catalog=catalog, submitted=sent), home=HOME)
