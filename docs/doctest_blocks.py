"""An extension of griffe: examples of docstrings become blocks of code, and brackets stay brackets in Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r"^( *)>>> .*(?:\n(?! *$).*)*", re.MULTILINE)
"""From a prompt to the next empty line."""


class DoctestBlocks(griffe.Extension):
    """Changes the docstring of every object before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """See griffe.Extension."""
        if obj.docstring is not None and not obj.is_alias:
            obj.docstring.value = mark_examples(obj.docstring.value)


def mark_examples(docstring: str) -> str:
    """The docstring with its examples between fences; in other text `][` is not a link.

    >>> print(mark_examples("a[0][1]\\n\\n>>> 1 + 1\\n2"))
    a[0]\\[1]
    <BLANKLINE>
    ```pycon
    >>> 1 + 1
    2
    ```
    """
    parts, end = [], 0
    for found in EXAMPLE.finditer(docstring):
        parts.append(docstring[end : found.start()].replace("][", r"]\["))
        parts.append(f"{found[1]}```pycon\n{found[0]}\n{found[1]}```")
        end = found.end()
    return "".join([*parts, docstring[end:].replace("][", r"]\[")])
