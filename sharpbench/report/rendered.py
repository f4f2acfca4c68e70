"""What the terminal shows, as text and as HTML for notebooks; tables as LaTeX."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

from sharpbench.report.format import MISSING, plain_text

if TYPE_CHECKING:
    import pandas as pd
    from rich.console import Console

DIGITS, MAX_CELL_CHARS = 4, 100
"""Significant digits of the numbers of a LaTeX table, and characters of its texts."""


def render_text(show: Callable[[Console], None], width: int) -> str:
    """The text that `show` prints on a terminal of `width` characters, without colours and trailing white space."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as captured:
        show(console)
    return captured.get().rstrip()


def render_html(show: Callable[[Console], None], width: int) -> str:
    """The same as HTML for a notebook; text is escaped."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, record=True, force_jupyter=False)
    show(console)
    return console.export_html(inline_styles=True, code_format='<pre style="line-height:normal">{code}</pre>')


def render_latex(table: pd.DataFrame, numbers: Collection[str] = ()) -> str:
    """The table as LaTeX for the package booktabs: numbers with 4 significant digits, text escaped, gaps as dashes.

    numbers: the columns of text that are set to the right, as the columns of numbers are.
    """
    right = [name in numbers or table[name].dtype.kind in "fi" for name in table]
    printable = table.map(lambda cell: plain_text(cell, MAX_CELL_CHARS) if isinstance(cell, str) else cell)
    return printable.to_latex(
        index=False,
        escape=True,
        na_rep=MISSING,
        float_format=f"%.{DIGITS}g",
        column_format="".join("r" if each else "l" for each in right),
    )
