"""The one error that means: what you gave us cannot be used."""


class InvalidInput(ValueError):
    """Bad usage or bad input.

    The message is one line that names the offender, its value, the bound and the remedy. The command
    line prints it and exits with status 2; from Python it is an ordinary ValueError.
    """
