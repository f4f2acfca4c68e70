"""The user's own network, made by a function in a Python file."""

from __future__ import annotations

import hashlib
import importlib.util
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import nn

from sharpbench.environment import import_torchvision
from sharpbench.errors import InvalidInput, one_line, short
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
        function = self._load_function()
        try:
            module = function()
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise InvalidInput(f"'{self.path}:{self.factory}()' raises {_describe_error(error)}") from error
        if not isinstance(module, nn.Module):
            raise InvalidInput(f"'{self.path}:{self.factory}()' returns {short(repr(module))}, not a torch.nn.Module")
        return module

    @property
    def sha256(self) -> str:
        """The SHA-256 of the file. Raises InvalidInput where it cannot be read."""
        try:
            return hashlib.sha256(self._existing_path.read_bytes()).hexdigest()
        except OSError as error:
            raise InvalidInput(f"'{self.path}' cannot be read ({error.strerror}); name another file") from None

    @property
    def _existing_path(self) -> Path:
        path = user_path(self.path)
        if not path.is_file():
            raise InvalidInput(f"there is no file '{self.path}'; name a Python file and its function, net.py:make")
        return path

    def _load_function(self) -> Any:
        """Execute the file; the function that `factory` names in it."""
        path = self._existing_path
        name = f"sharpbench_model_{self.sha256[:12]}"
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise InvalidInput(f"'{self.path}' is not a Python file; its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickling look their module up
        try:
            try:
                spec.loader.exec_module(module)
            except RuntimeError as error:
                if "torchvision::" not in str(error):
                    raise
                import_torchvision()  # defines the schemas without which torchvision cannot be imported
                spec.loader.exec_module(module)
        except (Exception, SystemExit) as error:  # as above
            raise InvalidInput(f"'{self.path}' fails to import: {_describe_error(error)}") from error
        function = getattr(module, self.factory, None)
        if not callable(function):
            names = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise InvalidInput(
                f"'{self.path}' has no function '{self.factory}'; it has {short(', '.join(names)) or 'none'}"
            )
        return function


def parse_file_model(word: str) -> File | None:
    """The File that 'path/to/net.py:make' names, or None for a word of another form.

    Raises InvalidInput for a file without a function.
    """
    if word.endswith(".py"):
        raise InvalidInput(f"'{short(word)}' names only a file; also name the function in it: {short(word)}:make")
    found = FILE_AND_FUNCTION.fullmatch(word)
    return File(found["path"], found["factory"]) if found else None


def _describe_error(error: BaseException) -> str:
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
