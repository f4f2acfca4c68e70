"""The user's own network, made by a function in a Python file."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from sharpbench.core.code_identity import hash_sources, local_modules
from sharpbench.core.source_files import execute_module, modules_beside, new_module
from sharpbench.environment import import_torchvision
from sharpbench.errors import InvalidInput, one_line, shorten
from sharpbench.files import user_path
from sharpbench.models.model import Model

FILE_AND_FUNCTION = re.compile(r"(?P<path>.+\.py):(?P<factory>\w+)")


@dataclass(frozen=True)
class File(Model):
    """'net.py:make': the network that `make()` in the file net.py returns. The file is executed.

    The class is not in MODELS. The content of the file may change, so no trained network of it is stored.
    """

    name: ClassVar[str] = "file"
    title: ClassVar[str] = "a network of your own, FILE.py:FUNCTION; the file is executed"
    source: ClassVar[str] = "the user"
    path: str
    factory: str

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build. The function is called without arguments and chooses shape and classes itself."""
        function = load_function(self.path, self.factory)
        try:
            with modules_beside(user_path(self.path)):
                module = function()
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise InvalidInput(f"'{self.path}:{self.factory}()' raises {describe_error(error)}") from error
        if not isinstance(module, nn.Module):
            raise InvalidInput(f"'{self.path}:{self.factory}()' returns {shorten(repr(module))}, not a torch.nn.Module")
        return module

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file. Raises InvalidInput where it cannot be read."""
        return hash_source(self.path)

    @property
    def imports_sha256(self) -> str | None:
        """The SHA-256 of the modules beside the file that it uses; None where it uses none, and before `build`."""
        name = module_name(self.path)
        used = {module for module in local_modules(name) if module.__name__ != name}
        return hash_sources(used) if used else None


def load_function(path: str, name: str) -> Callable[..., Any]:
    """Execute the file at `path`; the function `name` in it. Its imports find the modules beside it.

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


def parse_file_model(word: str) -> File | None:
    """The File that 'path/to/net.py:make' names, or None for a word of another form.

    Raises InvalidInput for a file without a function.
    """
    if word.endswith(".py"):
        raise InvalidInput(f"'{shorten(word)}' names only a file; also name the function in it: {shorten(word)}:make")
    found = FILE_AND_FUNCTION.fullmatch(word)
    return File(found["path"], found["factory"]) if found else None


def describe_error(error: BaseException) -> str:
    """The type and the text of an error on one line."""
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
