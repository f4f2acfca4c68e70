"""A network of one's own, made by a function in a Python file."""

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
    """'net.py:make': what `make()` in the file net.py returns. This executes the file.

    Not installed under a name of its own: what the file does may change, so nothing that is made of it is kept.
    """

    name: ClassVar[str] = "file"
    title: ClassVar[str] = "a network of your own, FILE.py:FUNCTION; the file is executed"
    source: ClassVar[str] = "the user"
    path: str
    factory: str

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build; the function is called without arguments and settles shape and classes itself."""
        made = self._function()
        try:
            module = made()
        except (Exception, SystemExit) as error:  # whatever the user's code raises
            raise InvalidInput(f"'{self.path}:{self.factory}()' raises {_describe_error(error)}") from error
        if not isinstance(module, nn.Module):
            raise InvalidInput(f"'{self.path}:{self.factory}()' returns {short(repr(module))}, no torch.nn.Module")
        return module

    @property
    def sha256(self) -> str:
        """The hash of the file."""
        try:
            return hashlib.sha256(self._place.read_bytes()).hexdigest()
        except OSError as error:
            raise InvalidInput(f"'{self.path}' cannot be read ({error.strerror}); name another file") from None

    @property
    def _place(self) -> Path:
        place = user_path(self.path)
        if not place.is_file():
            raise InvalidInput(f"there is no file '{self.path}'; name a Python file and its function, net.py:make")
        return place

    def _function(self) -> Any:
        place = self._place
        name = f"sharpbench_model_{self.sha256[:12]}"
        spec = importlib.util.spec_from_file_location(name, place)
        if spec is None or spec.loader is None:
            raise InvalidInput(f"'{self.path}' is no Python file; its name must end in .py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses and pickling look their module up
        try:
            try:
                spec.loader.exec_module(module)
            except RuntimeError as error:
                if "torchvision::" not in str(error):
                    raise
                import_torchvision()  # beside a torch without CUDA it takes this to be imported at all
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
    """The File that 'path/to/net.py:make' names, or None for a word of another form."""
    if word.endswith(".py"):
        raise InvalidInput(f"'{short(word)}' names a file alone; name the function in it, too: {short(word)}:make")
    found = FILE_AND_FUNCTION.fullmatch(word)
    return File(found["path"], found["factory"]) if found else None


def _describe_error(error: BaseException) -> str:
    return one_line(" ".join(f"{type(error).__name__}: {error}".split()))[:300]
