"""The user's own network, made by a function in a Python file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from sharpbench.core.code_identity import hash_sources, local_modules
from sharpbench.core.functional import Forward
from sharpbench.core.source_files import modules_beside
from sharpbench.core.user_functions import hash_source, load_function, module_name, split_file_and_function
from sharpbench.errors import InvalidInput, describe_error, shorten
from sharpbench.files import user_path
from sharpbench.models.model import Model


@dataclass(frozen=True)
class File(Model):
    """'net.py:make': the network that `make()` in the file net.py returns, or `make` itself. The file is executed.

    The class is not in MODELS. The content of the file may change, so no trained network of it is stored.
    """

    name: ClassVar[str] = "file"
    title: ClassVar[str] = "a network of your own, FILE.py:FUNCTION; the file is executed"
    source: ClassVar[str] = "the user"
    path: str
    factory: str

    def build(self, shape: tuple[int, ...], classes: int) -> nn.Module:
        """See Model.build. The function is called without arguments and chooses shape and classes itself."""
        module, forward = self.build_called()
        if forward is not None:
            raise InvalidInput(
                f"'{self.path}:{self.factory}()' says how its network is called, which only `measure`, `doctor` and "
                "`symmetry` take; make a network that is called as model(inputs)"
            )
        return module

    def build_called(self) -> tuple[nn.Module, Forward | None]:
        """The network, and (model, inputs) -> outputs where the function returns this next to it."""
        function = load_function(self.path, self.factory)
        try:
            with modules_beside(user_path(self.path)):
                made = function if isinstance(function, nn.Module) else function()
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise InvalidInput(f"'{self.path}:{self.factory}()' raises {describe_error(error)}") from error
        module, forward = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
        if not isinstance(module, nn.Module) or not (forward is None or callable(forward)):
            raise InvalidInput(
                f"'{self.path}:{self.factory}()' returns {shorten(repr(made))}, not a torch.nn.Module or "
                "(module, forward)"
            )
        return module, forward

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


def parse_file_model(word: str) -> File | None:
    """The File that 'path/to/net.py:make' names, or None for a word of another form.

    Raises InvalidInput for a file without a function.
    """
    found = split_file_and_function(word)
    return File(*found) if found else None
