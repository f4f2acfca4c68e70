"""Folders that users name, and files and folders that appear complete or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sharpbench.errors import InvalidInput
from sharpbench.files import Workspace, atomic_folder, atomic_write, cache_folder, data_folder, user_path

Folder = Callable[[Path | str | None], Path | None]
PLACES = [(data_folder, "SHARPBENCH_DATA"), (cache_folder, "SHARPBENCH_CACHE")]


@pytest.mark.parametrize(("folder", "variable"), PLACES)
def test_what_is_given_goes_before_the_environment(
    folder: Folder, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "environment"))
    assert folder(tmp_path / "given") == tmp_path / "given"
    assert folder(str(tmp_path / "given")) == tmp_path / "given"
    assert folder(None) == tmp_path / "environment"
    assert not (tmp_path / "environment").exists()  # asking for a folder makes none


def test_a_workspace_has_the_folders_that_are_named_or_the_usual_ones(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Absolute where another process must find them from another working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SHARPBENCH_DATA", "data")
    monkeypatch.setenv("SHARPBENCH_CACHE", "cache")
    usual = Workspace.locate(plugins=[Path("plugin.py")])
    assert usual == Workspace(
        cache_dir=tmp_path / "cache", data_dir=Path("data"), plugins=(tmp_path / "plugin.py",), device="cpu", threads=1
    )
    named = Workspace.locate(cache_dir="here", data_dir="there", device="cuda", threads=3)
    assert named == Workspace(cache_dir=tmp_path / "here", data_dir=Path("there"), device="cuda", threads=3)


@pytest.mark.parametrize(("folder", "variable"), PLACES)
def test_the_home_folder_may_be_a_tilde(
    folder: Folder, variable: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/there")
    assert folder(None) == tmp_path / "there"
    assert folder("~/here") == tmp_path / "here"


def test_without_either_there_is_no_data_and_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for unset in ("SHARPBENCH_DATA", "SHARPBENCH_CACHE"):
        monkeypatch.delenv(unset, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert data_folder(None) is None
    assert cache_folder(None) == tmp_path / "sharpbench"
    monkeypatch.setenv("SHARPBENCH_DATA", "")
    monkeypatch.setenv("SHARPBENCH_CACHE", "")
    assert data_folder(None) is None
    assert cache_folder(None) == tmp_path / "sharpbench"


def test_one_variable_is_not_the_other(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SHARPBENCH_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("SHARPBENCH_CACHE", str(tmp_path / "cache"))
    assert (data_folder(None), cache_folder(None)) == (tmp_path / "data", tmp_path / "cache")


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("content", ["é\n", b"\x00\r\n"])
def test_a_written_file_holds_the_content_and_nothing_lies_beside_it(
    tmp_path: Path, content: str | bytes, durable: bool
) -> None:
    path = tmp_path / "new" / "file"
    for _ in range(2):
        atomic_write(path, content, durable=durable)
        assert path.read_bytes() == (content if isinstance(content, bytes) else content.encode())
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("interruption", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("method", ["write_bytes", "replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interruption: BaseException, method: str
) -> None:
    path, write = tmp_path / "file", Path.write_bytes
    path.write_text("before")

    def fail(draft: Path, content: bytes | Path) -> None:
        if isinstance(content, bytes):
            write(draft, content[:1])
        raise interruption

    with monkeypatch.context() as patch:
        patch.setattr(Path, method, fail)
        with pytest.raises(type(interruption)):
            atomic_write(path, "after")
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_device_is_not_replaced_but_a_pipe_is(tmp_path: Path) -> None:
    """Root could replace /dev/null, which others then cannot write to; writing to a pipe might never end."""
    null = tmp_path / "null"
    null.symlink_to("/dev/null")
    atomic_write(null, "lost")
    assert null.is_symlink()
    os.mkfifo(tmp_path / "pipe")
    atomic_write(tmp_path / "pipe", "kept")
    assert (tmp_path / "pipe").read_text() == "kept"


def test_half_a_surrogate_pair_as_in_a_file_name_is_written_as_its_escape(tmp_path: Path) -> None:
    atomic_write(tmp_path / "page.md", "a\udcff.pt")
    assert (tmp_path / "page.md").read_text(encoding="utf-8") == "a\\udcff.pt"


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "parent" / "folder"
    with atomic_folder(path) as draft:
        (draft / "file").write_text("1")
        assert not path.exists()
    assert [each.name for each in path.iterdir()] == ["file"]
    assert list(path.parent.iterdir()) == [path]


def interrupted_folder(path: Path) -> None:
    with atomic_folder(path, replace=True) as draft:
        (draft / "file").write_text("after")
        raise KeyboardInterrupt


def test_a_folder_whose_block_fails_does_not_appear(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").write_text("before")
    for name in ("new", "old"):
        with pytest.raises(KeyboardInterrupt):
            interrupted_folder(tmp_path / name)
    assert list(tmp_path.iterdir()) == [tmp_path / "old"]
    assert (tmp_path / "old" / "file").read_text() == "before"


def test_a_folder_that_holds_something_is_replaced_only_on_request(tmp_path: Path) -> None:
    path = tmp_path / "folder"
    path.mkdir()
    with atomic_folder(path) as draft:
        (draft / "first").touch()
    with pytest.raises(OSError, match="not empty"), atomic_folder(path) as draft:
        (draft / "second").touch()
    assert [each.name for each in path.iterdir()] == ["first"]
    with atomic_folder(path, replace=True) as draft:
        (draft / "second").touch()
    assert [each.name for each in path.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["a\0b", "a" * 300, "~nobody-of-that-name/x"])
def test_a_path_that_cannot_be_looked_up_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match=r"cannot be looked up .*; name another path"):
        user_path(name)


def test_a_folder_whose_files_cannot_be_looked_up_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a folder of another user; for root there is none."""
    monkeypatch.setattr(os, "access", lambda path, mode: not (Path(path) == tmp_path and mode == os.X_OK))
    with pytest.raises(InvalidInput, match=r"cannot be looked up \(Permission denied\); name another path"):
        user_path(tmp_path)


def test_a_path_that_is_not_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "new", tmp_path / "file" / "below"):
        assert user_path(path) == path
