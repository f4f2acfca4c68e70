"""Addresses in the site: made of slugs and hashes, never of names as they are."""

from __future__ import annotations

from sharpbench.analysis.population import MeasuredNetwork
from sharpbench.files import content_hash
from sharpbench.leaderboard.board import Board
from sharpbench.leaderboard.pages.links import MEASURES, page_slug

BOARD = "board"
"""The folder of everything but the first page."""
HASH_CHARS = 16


def measure_address(measure: str) -> str:
    """The page of a measure."""
    return f"{BOARD}/{MEASURES}/{page_slug(measure)}.html"


def population_address(board: Board) -> str:
    """The page of a population."""
    return f"{BOARD}/populations/{board.slug}.html"


def network_name(board: Board, network: MeasuredNetwork) -> str:
    """The file name of the page of a network, without suffix: a hash of its board and its key."""
    return content_hash([board.slug, network.key])[:HASH_CHARS]


def network_address(board: Board, network: MeasuredNetwork) -> str:
    """The page of a network."""
    return f"{BOARD}/networks/{network_name(board, network)}.html"
