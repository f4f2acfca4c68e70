"""The zoo: what is on disk is believed whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sharpbench.errors import InvalidInput
from sharpbench.files import atomic_write
from sharpbench.processes import ChildEnded, ChildProcess
from sharpbench.training import zoo as zoo_module
from sharpbench.training.zoo import FORMAT, RESULT, WEIGHTS, Origin, Zoo, ZooEntry

WEIGHT = torch.arange(6.0).reshape(2, 3)


def entry(folder: Path, key: str = "k") -> Path:
    """A saved entry."""
    Zoo(folder).save(key, {"w": WEIGHT}, {"gap": 0.5, "fitted": True, "train_loss": None})
    return folder / "networks" / key


def assert_whole(folder: Path, key: str = "k") -> None:
    loaded = Zoo(folder).load(key)
    assert loaded is not None
    assert torch.equal(loaded[0]["w"], WEIGHT)
    assert loaded[1] == {"gap": 0.5, "fitted": True, "train_loss": None}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64])
def test_weights_come_back_bit_by_bit(tmp_path: Path, dtype: torch.dtype) -> None:
    weights = {"a.weight": torch.randn(3, 4).to(dtype), "b": torch.tensor(7.0).to(dtype), "empty": torch.zeros(0, 2)}
    weights["transposed"] = weights["a.weight"].T  # not contiguous
    Zoo(tmp_path).save("k", weights, {})
    loaded = Zoo(tmp_path).load("k")
    assert loaded is not None
    assert set(loaded[0]) == set(weights)
    for name, value in weights.items():
        assert loaded[0][name].dtype == value.dtype
        assert torch.equal(loaded[0][name], value)


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    """A network's state dict holds a tied tensor under each of its names."""
    tied = torch.nn.Sequential(torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False))
    tied[1].weight = tied[0].weight
    state: dict[str, Tensor] = {name: value.detach().cpu() for name, value in tied.state_dict().items()}
    Zoo(tmp_path).save("k", state, {})
    loaded = Zoo(tmp_path).load("k")
    assert loaded is not None
    assert {name: value.tolist() for name, value in loaded[0].items()} == {
        name: value.tolist() for name, value in state.items()
    }


@pytest.mark.parametrize("size", [0, 1, 7, 8, 50, -1, -8])
def test_truncated_weights_are_no_weights(tmp_path: Path, size: int) -> None:
    path = entry(tmp_path) / WEIGHTS
    path.write_bytes(path.read_bytes()[:size])
    assert Zoo(tmp_path).load("k") is None


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    path = entry(tmp_path) / WEIGHTS
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert Zoo(tmp_path).load("k") is None
    path.write_bytes(content)
    assert_whole(tmp_path)


@pytest.mark.parametrize(
    "change", [{"format": 0}, {"format": FORMAT + 1}, {"format": str(FORMAT)}, {"sha256": None}, {"sha256": "0" * 64}]
)
def test_other_formats_and_hashes_are_not_believed(tmp_path: Path, change: dict[str, Any]) -> None:
    path = entry(tmp_path) / RESULT
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert Zoo(tmp_path).load("k") is None


@pytest.mark.parametrize("result", [{"gap": 5.0, "fitted": True, "train_loss": None}, {}, 5, None, [], "text"], ids=str)
def test_a_result_that_was_tampered_with_is_not_believed(tmp_path: Path, result: object) -> None:
    """The truth of a network is as much the entry as its weights."""
    path = entry(tmp_path) / RESULT
    path.write_text(json.dumps({**json.loads(path.read_text()), "result": result}))
    assert Zoo(tmp_path).load("k") is None


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"{}", b"\xff\xfe", b"\x00" * 64, b"[" * 100_000],
    ids=["empty", "open", "null", "list", "object", "no utf-8", "zeros", "deep"],
)
def test_damaged_json_is_not_believed(tmp_path: Path, content: bytes) -> None:
    (entry(tmp_path) / RESULT).write_bytes(content)
    assert Zoo(tmp_path).load("k") is None
    entry(tmp_path)
    assert_whole(tmp_path)


@pytest.mark.parametrize("pipe", [False, True])
@pytest.mark.parametrize("missing", [WEIGHTS, RESULT])
def test_half_an_entry_is_none_and_is_replaced(tmp_path: Path, missing: str, pipe: bool) -> None:
    (entry(tmp_path) / missing).unlink()
    if pipe:  # whose reading would never end
        os.mkfifo(tmp_path / "networks" / "k" / missing)
    assert Zoo(tmp_path).load("k") is None
    entry(tmp_path)
    assert_whole(tmp_path)


def test_a_saved_entry_replaces_the_one_that_stands_there(tmp_path: Path) -> None:
    Zoo(tmp_path).save("k", {"other": torch.ones(1)}, {"gap": 1.0})
    (tmp_path / "networks" / "k" / "left-over").write_text("")
    entry(tmp_path)
    assert_whole(tmp_path)
    assert sorted(path.name for path in (tmp_path / "networks" / "k").iterdir()) == sorted((RESULT, WEIGHTS))


def test_entries_do_not_touch_each_other(tmp_path: Path) -> None:
    entry(tmp_path)
    Zoo(tmp_path).save("other", {"w": torch.zeros(1)}, {})
    assert_whole(tmp_path)
    assert Zoo(tmp_path).load("none") is None


@pytest.mark.parametrize("at", [WEIGHTS, RESULT])
def test_an_interrupted_save_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    entry(tmp_path)

    def interrupted(path: Path, content: bytes | str, **options: bool) -> None:
        atomic_write(path, content[:10] if path.name == at else content, **options)
        if path.name == at:
            raise KeyboardInterrupt

    monkeypatch.setattr(zoo_module, "atomic_write", interrupted)
    for key in ("k", "new"):
        with pytest.raises(KeyboardInterrupt):
            Zoo(tmp_path).save(key, {"w": torch.zeros(2, 3)}, {})
    assert_whole(tmp_path)
    assert [path.name for path in (tmp_path / "networks").iterdir()] == ["k"]


def test_a_killed_save_leaves_no_entry(tmp_path: Path) -> None:
    """SIGKILL between the two files: nothing can be tidied up, and nothing is believed."""

    def save(connection: object) -> None:
        def killed(path: Path, content: bytes | str, **options: bool) -> None:
            atomic_write(path, content, **options)
            os.kill(os.getpid(), signal.SIGKILL)

        zoo_module.atomic_write = killed
        Zoo(tmp_path).save("k", {"w": torch.zeros(3)}, {})

    with pytest.raises(ChildEnded) as ended:
        ChildProcess(save, method="fork").receive(timeout=60)
    assert ended.value.status == -signal.SIGKILL
    assert Zoo(tmp_path).load("k") is None
    assert not (tmp_path / "networks" / "k").exists()
    entry(tmp_path)
    assert_whole(tmp_path)


def test_two_processes_may_save_the_same_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one is done between this one's removal of what stands there and its rename."""
    remove = shutil.rmtree

    def removed_and_saved_by_another(path: Path, **options: Any) -> None:
        remove(path, **options)
        monkeypatch.setattr(shutil, "rmtree", remove)
        entry(tmp_path)

    monkeypatch.setattr(shutil, "rmtree", removed_and_saved_by_another)
    entry(tmp_path)
    assert_whole(tmp_path)
    assert [path.name for path in (tmp_path / "networks").iterdir()] == ["k"]


def test_a_folder_that_is_no_folder_gets_one_line(tmp_path: Path) -> None:
    (tmp_path / "networks").write_text("")
    with pytest.raises(
        InvalidInput, match=r"cannot write .*networks.*; choose another folder with --cache-dir"
    ) as raised:
        entry(tmp_path)
    assert "\n" not in str(raised.value)
    assert Zoo(tmp_path).load("k") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_gets_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(InvalidInput, match=r"cannot write .*; choose another folder with --cache-dir"):
            entry(tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_an_entry_that_cannot_be_looked_up_is_none(tmp_path: Path) -> None:
    """Here since its name is too long; elsewhere the folder is that of another user."""
    entry(tmp_path)
    assert Zoo(tmp_path).holds("k")
    assert not Zoo(tmp_path).holds("k" * 300)


def test_a_full_disk_gets_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes, **_: bool) -> None:
        path.write_bytes(content[:3])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zoo_module, "atomic_write", full)
    with pytest.raises(InvalidInput, match=r"cannot write .*: No space left on device; choose another folder"):
        entry(tmp_path)
    assert list((tmp_path / "networks").iterdir()) == []


ORIGIN = Origin({"model": "small-mlp", "seed": 3}, "ab" * 32, "cpu")


def test_entries_are_listed_with_what_they_came_of_and_without_reading_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = Zoo(tmp_path)
    zoo.save("b", {"w": WEIGHT}, {"gap": 0.5}, origin=ORIGIN)
    zoo.save("a", {"w": WEIGHT}, {"gap": 0.25})
    sizes = {key: (tmp_path / "networks" / key / WEIGHTS).stat().st_size for key in "ab"}
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("weights were read"))
    entries, others = zoo.entries()
    assert entries == [ZooEntry("a", None, {"gap": 0.25}, sizes["a"]), ZooEntry("b", ORIGIN, {"gap": 0.5}, sizes["b"])]
    assert others == 0


def test_what_is_damaged_or_of_another_format_is_counted_and_not_listed(tmp_path: Path) -> None:
    zoo = Zoo(tmp_path)
    for key in ("whole", "old", "torn", "half", "odd"):
        zoo.save(key, {"w": WEIGHT}, {}, origin=ORIGIN)
    path = tmp_path / "networks"
    (path / "old" / RESULT).write_text((path / "old" / RESULT).read_text().replace('"format": 2', '"format": 1'))
    (path / "torn" / RESULT).write_text("{")
    (path / "half" / WEIGHTS).unlink()
    (path / "odd" / RESULT).write_text(json.dumps({"format": 2, "origin": {"recipe": 5}, "result": {}}))
    (path / ".draft-x").mkdir()
    (path / "a file").write_text("")
    entries, others = zoo.entries()
    assert [entry.key for entry in entries] == ["whole"]
    assert others == 5
    assert Zoo(tmp_path / "none").entries() == ([], 0)


def test_an_origin_that_was_tampered_with_is_not_believed(tmp_path: Path) -> None:
    zoo, key = Zoo(tmp_path), ORIGIN.key
    zoo.save(key, {"w": WEIGHT}, {}, origin=ORIGIN)
    assert zoo.load(key) is not None
    assert zoo.read_packed(key) == (tmp_path / "networks" / key / WEIGHTS).read_bytes()
    path = tmp_path / "networks" / key / RESULT
    path.write_text(path.read_text().replace("small-mlp", "small-cnn"))
    assert zoo.load(key) is None
    assert zoo.read_packed(key) is None


def test_a_curve_is_beside_the_entry_which_is_used_without(tmp_path: Path) -> None:
    zoo, key = Zoo(tmp_path), ORIGIN.key
    zoo.save(key, {"w": WEIGHT}, {"gap": 0.5}, origin=ORIGIN)
    path = tmp_path / "networks" / key / RESULT
    without = json.loads(path.read_text())
    assert zoo.read_curve(key) == {}
    zoo.save(key, {"w": WEIGHT}, {"gap": 0.5}, origin=ORIGIN, curve={"1": 2.5, "2": None})
    assert json.loads(path.read_text()) == {**without, "curve": {"1": 2.5, "2": None}}, "the hash is the same"
    assert zoo.read_curve(key) == {"1": 2.5, "2": None}
    assert zoo.load(key) is not None
    path.write_text(path.read_text().replace('"2": null', '"x": null'))
    assert zoo.read_curve(key) == {}
    assert zoo.read_curve("none") == {}


def test_shelves_do_not_mix_and_entries_can_be_removed(tmp_path: Path) -> None:
    entry(tmp_path)
    other = Zoo(tmp_path, shelf="checkpoints")
    assert other.load("k") is None
    other.save("k", {"w": torch.zeros(1)}, {"active": [1, 2], "finished": {}})
    loaded = other.load("k")
    assert loaded is not None
    assert loaded[1] == {"active": [1, 2], "finished": {}}
    other.remove("k")
    other.remove("none")
    assert other.load("k") is None
    assert_whole(tmp_path)


def test_an_entry_under_the_key_of_another_network_is_not_used(tmp_path: Path) -> None:
    """Its own hash fits: the whole folder was copied."""
    origin = Origin({"model": "m", "seed": 0}, "ab" * 32, "cpu")
    other = Origin({"model": "m", "seed": 1}, "ab" * 32, "cpu")
    zoo = Zoo(tmp_path)
    zoo.save(origin.key, {"w": WEIGHT}, {"gap": 0.5}, origin=origin)
    assert zoo.load(origin.key) is not None
    shutil.copytree(tmp_path / "networks" / origin.key, tmp_path / "networks" / other.key)
    assert zoo.load(other.key) is None
    assert zoo.read_packed(other.key) is None
