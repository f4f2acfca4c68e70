"""Library: a peer as it is installed, or the reason why it cannot be asked."""

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
    """A library by the names that it goes by. warns: what its calls warn of, as regular expressions.

    title: what people call it. distribution: what pip installs. package: what Python imports.
    """

    title: str
    distribution: str
    package: str
    warns: tuple[str, ...] = ()

    def module(self, name: str = "") -> ModuleType:
        """Its package, or the module `name` in it, imported now; NotApplicable with the remedy where it is absent."""
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
    """Read once a process: it takes as long as a small network's gradient, and every call states it."""
    try:
        return f"{distribution}=={importlib.metadata.version(distribution)}"
    except importlib.metadata.PackageNotFoundError:
        return distribution
