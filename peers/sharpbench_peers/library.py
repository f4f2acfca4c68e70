"""An installed library: its module, its version and its warnings."""

from __future__ import annotations

import importlib
import importlib.metadata
import warnings
from dataclasses import dataclass
from functools import cache
from types import ModuleType

from sharpbench import NotApplicable

REMEDY = "pip install 'sharpbench[peers]'"


@dataclass(frozen=True, slots=True)
class Library:
    """The names of a library, and the warnings of its calls.

    Args:
        title: its name in texts.
        distribution: its name for pip.
        package: its name for Python's import.
        warns: its warnings, as regular expressions.
    """

    title: str
    distribution: str
    package: str
    warns: tuple[str, ...] = ()

    def module(self, name: str = "") -> ModuleType:
        """Its package, or the module `name` in it, imported now. Raises NotApplicable with the remedy without it."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return importlib.import_module(f"{self.package}.{name}" if name else self.package)
        except ImportError as error:
            raise NotApplicable(f"{self.title} cannot be imported ({error}); {REMEDY}") from error

    def version(self) -> str:
        """The distribution and its version, as `pip` writes them."""
        return _version(self.distribution)


@cache
def _version(distribution: str) -> str:
    """Read once per process: reading takes as long as a small network's gradient, and every call states the version."""
    try:
        return f"{distribution}=={importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return distribution
