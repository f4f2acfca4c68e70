"""Files of users find the modules next to them, and each file those in its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from sharpbench.errors import InvalidInput
from sharpbench.models.file import File


def package_beside(folder: Path, width: int) -> File:
    (folder / "mymodels").mkdir(parents=True)
    (folder / "mymodels" / "__init__.py").touch()
    (folder / "mymodels" / "net.py").write_text(
        f"from torch import nn\ndef make():\n    import widths\n    return nn.Linear(3, {width} + widths.MORE)\n"
    )
    (folder / "widths.py").write_text("MORE = 1\n")
    (folder / "net.py").write_text("from mymodels.net import make\n")
    return File(str(folder / "net.py"), "make")


def test_modules_beside_a_file_are_found_and_those_of_two_folders_kept_apart(tmp_path: Path) -> None:
    """Also by imports within a function, which run when the network is built."""
    first, second = package_beside(tmp_path / "a", 4), package_beside(tmp_path / "b", 6)
    widths = [model.build((3,), 2).out_features for model in (first, second, first)]
    assert widths == [5, 7, 5]


def test_the_modules_beside_a_file_are_part_of_its_identity(tmp_path: Path) -> None:
    first, second = package_beside(tmp_path / "c", 4), package_beside(tmp_path / "d", 6)
    found = []
    for model in (first, second):
        model.build((3,), 2)
        found.append(model.imports_sha256)
    assert None not in found
    assert found[0] != found[1]
    assert first.sha256 == second.sha256


def test_a_file_without_a_python_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.txt").write_text("make = 1")
    with pytest.raises(InvalidInput, match=r"is not a Python file; its name must end in .py"):
        File(str(tmp_path / "net.txt"), "make").build((3,), 2)
