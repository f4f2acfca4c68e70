"""The one error that means: what you gave us cannot be used; and how texts of others are quoted in a line."""

import difflib
from collections.abc import Iterable


class InvalidInput(ValueError):
    """Bad usage or bad input.

    The message is one line that names the offender, its value, the bound and the remedy; whatever it quotes,
    it stays one line. The command line prints it and exits with status 2; from Python it is an ordinary
    ValueError.
    """

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


def one_line(text: str) -> str:
    """`text` with all that does not print (line ends, control characters, half surrogate pairs) escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def short(text: str) -> str:
    """`text` as a message quotes it: on one line, at most 60 characters."""
    line = one_line(text[:61])
    return line if len(line) <= 60 else line[:57] + "..."


def cut(text: str, longest: int) -> str:
    """`text` on one line of at most `longest` characters, with an ellipsis at its end where more was there."""
    line = one_line(text)
    return line if len(line) <= longest else line[: longest - 3] + "..."


def near(name: str, offered: Iterable[str]) -> str:
    """'did you mean ...?' with the names near to `name`, or '' where none is."""
    close = difflib.get_close_matches(name[:80], list(offered), n=3, cutoff=0.5)
    quoted = [f"'{word}'" for word in close]
    return f"did you mean {' or '.join(quoted)}?" if quoted else ""
