"""Functions of users' Python files, which are executed; 'net.py:make' names one."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sharpbench.core.source_files import execute_module, new_module
from sharpbench.environment import import_torchvision
from sharpbench.errors import InvalidInput, describe_error, shorten
from sharpbench.files import user_path

FILE_AND_FUNCTION = re.compile(r"(?P<path>.+\.py):(?P<factory>\w+)")
FILE_ONLY = re.compile(r"(?P<path>.+\.py)(:.*)?")


def split_file_and_function(word: str) -> tuple[str, str] | None:
    """The file and the function that 'path/to/net.py:make' names, or None for a word of another form.

    Raises InvalidInput for a file without a function.
    """
    if found := FILE_AND_FUNCTION.fullmatch(word):
        return found["path"], found["factory"]
    if file := FILE_ONLY.fullmatch(word):
        path = shorten(file["path"])
        raise InvalidInput(f"'{shorten(word)}' names only a file; also name the function in it: {path}:make")
    return None


def load_function(path: str, name: str) -> Callable[..., Any]:
    """Execute the file at `path`; the function `name` in it. Its imports find the modules in its folder.

    Raises InvalidInput where there is no such file or function, and where the file raises.
    """
    module = new_module(_existing_path(path), module_name(path), f"'{path}'")
    try:
        try:
            execute_module(module)
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            import_torchvision()  # defines the schemas without which torchvision cannot be imported
            execute_module(module)
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        raise InvalidInput(f"'{path}' fails to import: {describe_error(error)}") from error
    function = getattr(module, name, None)
    if not callable(function):
        names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
        raise InvalidInput(f"'{path}' has no function '{name}'; it has {shorten(', '.join(names)) or 'none'}")
    found: Callable[..., Any] = function
    return found


def module_name(path: str) -> str:
    """The name of the module that the file at `path` becomes; it changes with the content."""
    return f"sharpbench_model_{hash_source(path)[:12]}"


def hash_source(path: str) -> str:
    """The SHA-256 of the file at `path`. Raises InvalidInput where it cannot be read."""
    try:
        return hashlib.sha256(_existing_path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise InvalidInput(f"'{path}' cannot be read ({error.strerror}); name another file") from None


def _existing_path(name: str) -> Path:
    path = user_path(name)
    if not path.is_file():
        raise InvalidInput(f"there is no file '{name}'; name a Python file and its function, net.py:make")
    return path
