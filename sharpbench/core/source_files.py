"""Python files of users, executed as modules that find the modules beside them."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

from sharpbench.errors import InvalidInput

_imported: dict[Path, dict[str, ModuleType]] = {}
"""Folder -> the modules that files of it imported from it. Modules of one name in two folders are kept apart by it."""


class _CurrentSource(SourceFileLoader):
    """The file as it is now: Python takes a compiled file for that of another text of the same length and second."""

    def get_code(self, fullname: str) -> CodeType:
        """The file's code, compiled anew."""
        path = self.get_filename(fullname)
        code: CodeType = self.source_to_code(self.get_data(path), path)
        return code


def new_module(path: Path, name: str, word: str) -> ModuleType:
    """A module for the file at `path`, in sys.modules as `name`, which is not executed yet.

    Raises InvalidInput for a file that is not Python, which errors call `word`.
    """
    spec = importlib.util.spec_from_file_location(name, path, loader=_CurrentSource(name, str(path)))
    if spec is None or path.suffix != ".py":
        raise InvalidInput(f"{word} is not a Python file; its name must end in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickling look their module up
    return module


def execute_module(module: ModuleType) -> None:
    """Execute the file of a `new_module`; it raises whatever the file raises."""
    spec = module.__spec__
    if spec is None or spec.loader is None:
        raise TypeError(f"{module.__name__} is not a module of new_module")
    with modules_beside(Path(str(module.__file__))):
        spec.loader.exec_module(module)


@contextmanager
def modules_beside(path: Path) -> Iterator[None]:
    """In the block, imports look into the folder of `path` first, as in a script of that folder; afterwards last.

    The script has no arguments: a file that reads those of the command line gets its defaults. What it prints goes to
    stderr, as stdout may be read as JSON.
    """
    folder = path.resolve().parent
    for other, modules in _imported.items():
        if other != folder:
            for name, module in modules.items():
                if sys.modules.get(name) is module:
                    del sys.modules[name]
    sys.modules.update(_imported.get(folder, {}))
    before = set(sys.modules)
    while str(folder) in sys.path:
        sys.path.remove(str(folder))
    sys.path.insert(0, str(folder))
    importlib.invalidate_caches()  # files that were written since the last import
    arguments, sys.argv = sys.argv, [str(path)]
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.argv = arguments
        sys.path.remove(str(folder))
        sys.path.append(str(folder))
        found = {name: sys.modules[name] for name in set(sys.modules) - before}
        beside = {name: module for name, module in found.items() if _lies_in(module, folder, path)}
        _imported.setdefault(folder, {}).update(beside)


def _lies_in(module: ModuleType, folder: Path, path: Path) -> bool:
    file = getattr(module, "__file__", None)
    if file is None or Path(file).resolve() == path.resolve():
        return False
    location = Path(file).resolve()
    return location.is_relative_to(folder) and "site-packages" not in location.relative_to(folder).parts
