"""Weights from files: every form that is taken, and that nothing in them is executed."""

from __future__ import annotations

import argparse
import pickle
from collections import OrderedDict
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from numpy._core import multiarray
from torch import Tensor, nn

from sharpbench.errors import InvalidInput
from sharpbench.files import form_series
from sharpbench.training.weight_files import INERT_NAMES, find_weight_files, read_weights, split_state
from sharpbench.training.weights import describe_left_out, load_weights


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


STATE: dict[str, Tensor] = dict(network().state_dict())


def equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> bool:
    return found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in expected)


class Attack:
    """What makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.path,))


def test_safetensors_are_read(tmp_path: Path) -> None:
    safetensors.torch.save_file(STATE, tmp_path / "net.safetensors")
    assert equal(read_weights(tmp_path / "net.safetensors").tensors, STATE)


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: state,
        lambda state: OrderedDict(state),
        lambda state: {"state_dict": state, "epoch": 7, "best": 0.5},
        lambda state: {"model": {"state_dict": state}, "optimizer": {"lr": [0.1]}},
    ],
)
def test_torch_files_are_read_whatever_wraps_the_state(tmp_path: Path, wrapped: Any, legacy: bool) -> None:
    path = tmp_path / "net.any_suffix"
    torch.save(wrapped(STATE), path, _use_new_zipfile_serialization=not legacy)
    assert equal(read_weights(path).tensors, STATE)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_that_would_execute_code_is_refused_and_does_not(tmp_path: Path, legacy: bool) -> None:
    for number, content in enumerate(
        (Attack(tmp_path / "executed"), {"state_dict": STATE, "x": Attack(tmp_path / "executed")})
    ):
        path = tmp_path / f"{number}.pt"
        torch.save(content, path, _use_new_zipfile_serialization=not legacy)
        with pytest.raises(
            InvalidInput, match=r"could execute code when read, so they are refused; save only model\.state"
        ):
            read_weights(path)
    assert not (tmp_path / "executed").exists()


def test_a_bare_pickle_is_refused_and_does_nothing(tmp_path: Path) -> None:
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(Attack(tmp_path / "executed")))
    with pytest.raises(InvalidInput, match=r"net\.pkl'"):
        read_weights(tmp_path / "net.pkl")
    assert not (tmp_path / "executed").exists()


def test_a_whole_module_is_refused(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "net.pt")
    with pytest.raises(InvalidInput, match=r"hold more than tensors .* refused; save only model.state_dict\(\)"):
        read_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("size", [0, 1, 3, 20, 300])
@pytest.mark.parametrize("form", ["safetensors", "zip", "legacy"])
def test_cut_files_are_said_in_a_line(tmp_path: Path, form: str, size: int) -> None:
    path = tmp_path / "net"
    if form == "safetensors":
        safetensors.torch.save_file(STATE, path)
    else:
        torch.save(STATE, path, _use_new_zipfile_serialization=form == "zip")
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(InvalidInput, match=r"weights '.*net'") as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(InvalidInput, match="hold a list instead of tensors by name"):
        read_weights(tmp_path / "list.pt")
    torch.save({"epoch": 3}, tmp_path / "none.pt")
    with pytest.raises(InvalidInput, match=r"hold 'epoch' \(int\) instead of tensors"):
        read_weights(tmp_path / "none.pt")
    torch.save({}, tmp_path / "empty.pt")
    with pytest.raises(InvalidInput, match="hold nothing instead of tensors"):
        read_weights(tmp_path / "empty.pt")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_weights(tmp_path)
    torch.save({"weight": np.zeros(3)}, tmp_path / "arrays.pt")
    with pytest.raises(InvalidInput, match=r"hold 'weight' \(NumPy array or other object\) instead of tensors by name"):
        read_weights(tmp_path / "arrays.pt")
    torch.save({1: torch.zeros(3)}, tmp_path / "number.pt")
    with pytest.raises(InvalidInput, match=r"hold 1 \(Tensor\) instead of tensors by name"):
        read_weights(tmp_path / "number.pt")


def test_the_content_says_the_format_and_not_the_ending(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "net.safetensors")
    safetensors.torch.save_file(STATE, tmp_path / "net.pt")
    for name in ("net.safetensors", "net.pt"):
        assert equal(dict(read_weights(tmp_path / name).tensors), STATE)


def test_weights_are_put_into_the_network() -> None:
    module = network()
    changed = {name: value + 1 for name, value in STATE.items()}
    load_weights(module, changed, where="net")
    assert equal(dict(module.state_dict()), changed)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_what_wrappers_put_before_the_names_is_taken_off(prefix: str) -> None:
    module = network()
    load_weights(module, {prefix + name: value * 2 for name, value in STATE.items()}, where="net")
    assert torch.equal(module.state_dict()["0.weight"], STATE["0.weight"] * 2)


@pytest.mark.parametrize("prefix", ["_orig_mod.module.", "module._orig_mod.", "model._orig_mod.module."])
def test_wrappers_of_wrappers_are_taken_off_too(prefix: str) -> None:
    module = network()
    load_weights(module, {prefix + name: value * 2 for name, value in STATE.items()}, where="net")
    assert torch.equal(module.state_dict()["0.weight"], STATE["0.weight"] * 2)


def tied() -> nn.Module:
    module = nn.Sequential(nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False))
    module[1].weight = module[0].weight
    return module


def test_one_name_of_a_tied_tensor_is_enough_and_two_must_agree() -> None:
    module, value = tied(), torch.randn(3, 3)
    load_weights(module, {"0.weight": value}, where="net")
    assert torch.equal(module.state_dict()["1.weight"], value)
    with pytest.raises(InvalidInput, match=r"1 of 2 different \(0.weight and 1.weight, which are one tensor"):
        load_weights(tied(), {"0.weight": value, "1.weight": value + 1}, where="net")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool, torch.complex64])
def test_weights_of_another_type_are_refused(dtype: torch.dtype) -> None:
    state = {**STATE, "0.weight": STATE["0.weight"].to(dtype)}
    with pytest.raises(InvalidInput, match=r"1 of 9 of another type \(0.weight torch"):
        load_weights(network(), state, where="net")


def test_half_precision_is_taken() -> None:
    module = network()
    load_weights(module, {**STATE, "0.weight": STATE["0.weight"].half()}, where="net")
    assert torch.equal(module.state_dict()["0.weight"], STATE["0.weight"].half().float())


def test_a_safetensors_file_is_one_whatever_its_name_and_header(tmp_path: Path) -> None:
    """Header lengths whose first byte begins a pickle or an archive."""
    for first in (0x80, 0x50):
        header = b'{"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        header += b" " * (0x100 + first - len(header))
        content = len(header).to_bytes(8, "little") + header + b"\0\0\0\0"
        (tmp_path / "net.bin").write_bytes(content)
        assert equal(read_weights(tmp_path / "net.bin").tensors, {"x": torch.zeros(1)})


def test_tensors_that_are_not_dense_are_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.eye(3).to_sparse()}, tmp_path / "net.pt")
    with pytest.raises(InvalidInput, match="hold a tensor that is not plain and dense under 'x'"):
        read_weights(tmp_path / "net.pt")


def test_a_state_that_holds_itself_ends(tmp_path: Path) -> None:
    loop: dict[str, Any] = {}
    loop["state_dict"] = loop
    torch.save(loop, tmp_path / "net.pt")
    with pytest.raises(InvalidInput, match=r"weights '.*net.pt'"):
        read_weights(tmp_path / "net.pt")


def test_a_counter_of_batches_may_be_missing() -> None:
    load_weights(network(), {key: value for key, value in STATE.items() if "num_batches" not in key}, where="net")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda state: state.pop("2.bias"), r"1 of 9 missing \(2.bias\)"),
        (lambda state: state.update({"3.weight": torch.zeros(1)}), r"1 of 10 unknown \(3.weight\)"),
        (
            lambda state: state.update({"2.weight": torch.zeros(5, 3)}),
            r"1 of 9 of another shape \(2.weight \[5, 3\] where the network has \[2, 3\]\); check --model",
        ),
        (lambda state: state.clear() or state.update({f"x{n}": torch.zeros(1) for n in range(5)}), "and 2 more"),
    ],
)
def test_what_does_not_fit_is_named(change: Any, line: str) -> None:
    state = dict(STATE)
    change(state)
    with pytest.raises(InvalidInput, match=line):
        load_weights(network(), state, where="net.pt")


def test_patterns_name_files_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        (tmp_path / f"epoch{number}.pt").touch()
    (tmp_path / "folder.pt").mkdir()
    assert [path.name for path in find_weight_files(str(tmp_path / "*.pt"))] == ["epoch1.pt", "epoch9.pt", "epoch10.pt"]
    assert find_weight_files(str(tmp_path / "epoch9.pt")) == [tmp_path / "epoch9.pt"]
    with pytest.raises(InvalidInput, match=r"there is no file '.*none.pt'; name weights"):
        find_weight_files(str(tmp_path / "none.pt"))


def test_a_name_with_brackets_is_a_file_before_it_is_a_pattern(tmp_path: Path) -> None:
    (tmp_path / "net[1].pt").touch()
    assert find_weight_files(str(tmp_path / "net[1].pt")) == [tmp_path / "net[1].pt"]


@pytest.mark.parametrize(
    ("wrapped", "state"),
    [
        ({"module": STATE, "global_steps": 3}, "module"),
        ({"model_state": STATE}, "model_state"),
        ({"net_state_dict": STATE}, "net_state_dict"),
        ({"state_dict_ema": STATE, "epoch": 1}, "state_dict_ema"),
        ({"my_net": STATE, "epoch": 1}, "my_net"),
        ({"state_dict": STATE, "args": argparse.Namespace(lr=0.1, out=Path("x"))}, "state_dict"),
        ({"state_dict": STATE, "best": np.float64(0.9), "history": np.arange(3.0)}, "state_dict"),
    ],
)
def test_states_are_found_in_the_files_of_training_scripts(tmp_path: Path, wrapped: Any, state: str) -> None:
    torch.save(wrapped, tmp_path / "net.pth")
    stored = read_weights(tmp_path / "net.pth")
    assert stored.state == state
    assert equal(stored.tensors, STATE)


def test_an_average_beside_the_weights_is_a_choice(tmp_path: Path) -> None:
    average = {name: value + 1 for name, value in STATE.items()}
    path = tmp_path / "net.pth"
    torch.save({"state_dict": STATE, "state_dict_ema": average}, path)
    stored = read_weights(path)
    assert equal(stored.tensors, STATE)
    assert stored.describe_choice("net.pth") == (
        "weights 'net.pth': 'state_dict' is taken; 'net.pth#state_dict_ema' takes 'state_dict_ema'"
    )
    name, key = split_state(f"{path}#state_dict_ema")
    assert (name, key) == (str(path), "state_dict_ema")
    assert equal(read_weights(Path(name), key).tensors, average)
    with pytest.raises(InvalidInput, match=r"have no state 'ema'; they have state_dict, state_dict_ema"):
        read_weights(path, "ema")
    torch.save({"generator": STATE, "critic": STATE}, path)
    with pytest.raises(InvalidInput, match=r"hold several states \(generator, critic\); choose one: '.*#generator'"):
        read_weights(path)


def test_a_file_whose_name_holds_a_number_sign_is_one(tmp_path: Path) -> None:
    (tmp_path / "net#1.pt").touch()
    assert split_state(str(tmp_path / "net#1.pt")) == (str(tmp_path / "net#1.pt"), None)


class Called:
    """A value that is made by calling `function` when it is unpickled."""

    def __init__(self, function: object) -> None:
        self.function = function

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, ("a",)


@pytest.mark.parametrize(
    "function",
    [argparse.Namespace, np.dtype, np.ndarray, PurePosixPath, type(Path()), multiarray.scalar, multiarray._reconstruct],
)
def test_names_that_are_let_through_execute_nothing(tmp_path: Path, function: object) -> None:
    """A value of another library is replaced by one that holds nothing, whatever the file calls it with."""
    torch.save({"state_dict": STATE, "value": Called(function)}, tmp_path / "net.pt")
    assert equal(read_weights(tmp_path / "net.pt").tensors, STATE)
    with torch.serialization.safe_globals(INERT_NAMES):
        value = torch.load(tmp_path / "net.pt", weights_only=True)["value"]
    assert type(value).__module__ == "sharpbench.training.weight_files"
    assert not vars(value).keys() - {"code"}


@pytest.mark.parametrize(
    ("saved", "accuracy"),
    [
        ({"acc": 98.0}, 0.98),
        ({"best_acc1": 0.5}, 0.5),
        ({"val_acc": torch.tensor(0.25)}, 0.25),
        ({"best_acc": np.float64(0.93)}, 0.93),
        ({"arch": "resnet18", "metric": 0.5}, 0.005),
        ({"epoch": 3}, None),
        ({"acc": "98"}, None),
    ],
)
def test_the_accuracy_that_a_file_states_is_read(tmp_path: Path, saved: Any, accuracy: float | None) -> None:
    torch.save({"state_dict": STATE, **saved}, tmp_path / "net.pt")
    assert read_weights(tmp_path / "net.pt").accuracy == pytest.approx(accuracy)


@pytest.mark.parametrize("prefix", ["net.", "backbone.", "model.", "module.model.", "_forward_module.net."])
@pytest.mark.parametrize("beside", [{}, {"criterion.pos_weight": torch.ones(1)}, {"val_acc.tp": torch.zeros(2)}])
def test_what_lightning_puts_beside_the_network_is_left_out(prefix: str, beside: dict[str, Tensor]) -> None:
    module = network()
    left_out = load_weights(
        module, {**{prefix + name: value * 2 for name, value in STATE.items()}, **beside}, where="n"
    )
    assert torch.equal(module.state_dict()["0.weight"], STATE["0.weight"] * 2)
    assert left_out == tuple(beside)
    assert bool(describe_left_out(left_out, where="n")) == bool(beside)


def test_averaged_weights_of_torch_and_compiled_parts_are_taken() -> None:
    averaged = torch.optim.swa_utils.AveragedModel(network())
    assert load_weights(network(), averaged.state_dict(), where="swa") == ()
    compiled = {name.replace("0.", "0._orig_mod.", 1): value for name, value in STATE.items()}
    assert load_weights(network(), compiled, where="compiled") == ()


def test_unknown_tensors_beside_names_that_fit_are_refused() -> None:
    """Buffers of a normalisation that the network itself applies: leaving them out would change its inputs."""
    with pytest.raises(InvalidInput, match=r"2 of 11 unknown \(mu, sigma\)"):
        load_weights(network(), {**STATE, "mu": torch.zeros(3), "sigma": torch.ones(3)}, where="net")


def test_files_of_two_series_are_not_mixed(tmp_path: Path) -> None:
    for name in ("01.pt", "1.pt", "02.pt"):
        (tmp_path / name).touch()
    with pytest.raises(InvalidInput, match=r"01.pt' and '.*1.pt' have the same numbers, .* more than one series"):
        find_weight_files(str(tmp_path / "*.pt"))


@pytest.mark.parametrize(
    ("names", "series"),
    [
        (["epoch1.pt", "epoch2.pt", "epoch10.pt"], True),
        (["epoch=1-loss=0.5.ckpt", "epoch=2-loss=0.1.ckpt"], True),
        (["best.pt", "last.pt"], False),
        (["epoch1.pt", "last.pt"], False),
        (["lr1-epoch1.pt", "lr1-epoch2.pt", "lr2-epoch1.pt"], False),
        (["epoch1.pt"], False),
    ],
)
def test_a_curve_needs_names_that_differ_in_a_growing_number(names: list[str], series: bool) -> None:
    assert form_series(names) == series
