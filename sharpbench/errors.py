"""InvalidInput, the error for unusable input; and quoting foreign text in a one-line message."""

import difflib
from collections.abc import Iterable

MAX_MESSAGE_CHARS = 2000
"""Of an error: more than any terminal shows, where a message quotes a long name or path."""


class InvalidInput(ValueError):
    """Bad usage or bad input.

    The message names the offender, its value, the bound and the remedy. It is one line, also if it quotes text with
    line ends, of at most MAX_MESSAGE_CHARS characters: a longer one loses its middle. The command line prints it and
    exits with status 2; in Python it is a ValueError.

    >>> from sharpbench import InvalidInput
    >>> str(InvalidInput("no measure 'a\\nb'"))
    "no measure 'a\\\\nb'"
    """

    def __init__(self, message: str) -> None:
        line = one_line(message)
        half = MAX_MESSAGE_CHARS // 2 - 3
        super().__init__(line if len(line) <= MAX_MESSAGE_CHARS else f"{line[:half]} ... {line[-half:]}")


def one_line(text: str) -> str:
    """`text` with unprintable characters (line ends, control characters, lone surrogates) escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def shorten(text: str) -> str:
    """`text` as a message quotes it: on one line, at most 60 characters."""
    line = one_line(text[:61])
    return line if len(line) <= 60 else line[:57] + "..."


def truncate(text: str, longest: int) -> str:
    """`text` on one line of at most `longest` characters; a text that is cut ends in an ellipsis."""
    line = one_line(text)
    return line if len(line) <= longest else line[: longest - 3] + "..."


def describe_error(error: BaseException) -> str:
    """The type and the text of an error, on one line of at most 300 characters."""
    return truncate(" ".join(f"{type(error).__name__}: {error}".split()), 300)


MIN_LIKENESS = 0.7
"""Names that resemble a word less than this share of the most similar one are not suggested."""


def suggest_names(name: str, offered: Iterable[str]) -> str:
    """'did you mean ...?' with the offered names that resemble `name`, or '' where none does."""
    close = difflib.get_close_matches(name[:80], list(offered), n=3, cutoff=0.5)
    likeness = [difflib.SequenceMatcher(None, word, name[:80]).ratio() for word in close]
    quoted = [f"'{word}'" for word, ratio in zip(close, likeness, strict=True) if ratio > MIN_LIKENESS * max(likeness)]
    return f"did you mean {' or '.join(quoted)}?" if quoted else ""
