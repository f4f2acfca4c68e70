"""The environment: what numbers were measured with, and the settings that they depend on."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable
from contextlib import suppress
from operator import attrgetter
from pathlib import Path

import pytest
import torch

from sharpbench import __version__
from sharpbench.environment import (
    apply_settings,
    check_threads,
    describe_environment,
    float32_products,
    resolve_device,
)
from sharpbench.errors import InvalidInput
from sharpbench.runner.process_settings import ProcessSettings
from sharpbench.runner.run import RunOptions


def test_an_environment_is_json_scalars_and_true() -> None:
    said = describe_environment("cpu")
    assert json.loads(json.dumps(said)) == said
    assert said["sharpbench"] == __version__
    assert said["torch"] == torch.__version__
    assert type(said["torch"]) is str or str(said["torch"]) == said["torch"]
    assert said["python"] == platform.python_version()
    assert (said["device"], said["cuda"]) == ("cpu", None)
    assert said["cores"] == len(os.sched_getaffinity(0))
    assert said["processor"]
    assert said["instructions"] == torch.backends.cpu.get_cpu_capability()


def test_settling_fixes_the_threads_and_keeps_float32_whole() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    assert describe_environment("cpu")["tf32"] is True
    apply_settings("cpu", 2)
    assert torch.get_num_threads() == describe_environment("cpu")["threads"] == 2
    assert describe_environment("cpu")["tf32"] is False
    apply_settings("cpu", 1)
    assert describe_environment("cpu")["threads"] == 1


@pytest.mark.parametrize(("tensor_cores", "convolutions"), [(True, False), (False, True)])
def test_either_kind_of_tf32_is_said(tensor_cores: bool, convolutions: bool) -> None:
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tensor_cores, convolutions
    assert describe_environment("cpu")["tf32"] is True


def set_generic(precision: str) -> None:
    torch.backends.fp32_precision = precision


def set_matmul(precision: str) -> None:
    torch.backends.cuda.matmul.fp32_precision = precision


def set_convolutions(precision: str) -> None:
    torch.backends.cudnn.conv.fp32_precision = precision


@pytest.mark.parametrize("switch", [set_generic, set_matmul, set_convolutions, torch.set_float32_matmul_precision])
def test_either_interface_to_tf32_may_have_been_used(switch: Callable[[str], None]) -> None:
    """torch raises where one of them is read that contradicts the other one."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    switch("high" if switch is torch.set_float32_matmul_precision else "tf32")
    try:
        assert describe_environment("cpu")["tf32"] is True
        assert "torch's threads" in ProcessSettings().values
    finally:
        apply_settings("cpu", 1)
    assert describe_environment("cpu")["tf32"] is False
    assert ProcessSettings().values["torch's matmul precision"] == torch.get_float32_matmul_precision() == "highest"
    assert ProcessSettings().values["torch's TF32"] is torch.backends.cudnn.allow_tf32 is False


def set_older(precision: str) -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"


def set_cpu_convolutions(precision: str) -> None:
    torch.backends.mkldnn.conv.fp32_precision = precision


def set_nothing(precision: str) -> None:
    """torch's default: TF32 in convolutions on a GPU."""


PRECISIONS = ("fp32_precision", "matmul.fp32_precision", "conv.fp32_precision", "rnn.fp32_precision")


def read_precisions() -> dict[str, str]:
    """What each of torch's newer settings says of float32 products."""
    backends = {"all": torch.backends, "cuda": torch.backends.cuda, "cudnn": torch.backends.cudnn}
    found = {}
    for name, backend in {**backends, "mkldnn": torch.backends.mkldnn}.items():
        for precision in PRECISIONS:
            with suppress(AttributeError):
                found[f"{name}.{precision}"] = attrgetter(precision)(backend)
    return found


@pytest.mark.parametrize(
    ("switch", "precision"),
    [
        *((switch, "tf32") for switch in (set_nothing, set_generic, set_matmul, set_convolutions, set_older)),
        *((switch, "bf16") for switch in (set_generic, set_cpu_convolutions)),
    ],
)
def test_products_of_float32_are_whole_for_a_while(
    switch: Callable[[str], None], precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.backends.cudnn.allow_tf32 = True
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    try:
        switch(precision)
        before = read_precisions()
        assert {"tf32", "bf16"} & set(before.values())
        with float32_products():
            assert set(read_precisions().values()) <= {"none", "ieee"}
            assert describe_environment("cpu")["tf32"] is False
        assert read_precisions() == before
    finally:
        apply_settings("cpu", 1)


def test_settings_that_round_nothing_are_left_alone() -> None:
    apply_settings("cpu", 1)
    torch.backends.cuda.matmul.fp32_precision = "ieee"
    before = read_precisions()
    with float32_products():
        assert read_precisions() == before


def test_on_a_gpu_algorithms_are_not_chosen_by_timing_them() -> None:
    torch.backends.cudnn.benchmark = True
    apply_settings("cpu", 1)
    assert torch.backends.cudnn.benchmark
    apply_settings("cuda", 1)
    assert not torch.backends.cudnn.benchmark


@pytest.mark.parametrize("available", [True, False])
def test_auto_takes_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch, available: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    assert resolve_device("auto") == ("cuda" if available else "cpu")
    assert resolve_device("cpu") == "cpu"
    if available:
        assert resolve_device("cuda") == "cuda"
    else:
        with pytest.raises(InvalidInput, match="torch sees no CUDA device; use --device cpu"):
            resolve_device("cuda")


@pytest.mark.parametrize("wanted", ["gpu", "CUDA", "cuda:1", "", "mps"])
def test_other_devices_are_refused(wanted: str) -> None:
    with pytest.raises(InvalidInput, match=f"device '{wanted}' is none of auto, cpu, cuda"):
        resolve_device(wanted)


def test_a_machine_that_does_not_tell_its_processor_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert describe_environment("cpu")["processor"] == platform.processor()


@pytest.mark.parametrize("threads", [0, -1, 1025, 100_000])
def test_a_number_of_threads_that_crashes_torch_is_refused(threads: int) -> None:
    check_threads(None)
    check_threads(1024)
    for refused in (lambda: check_threads(threads), lambda: RunOptions(threads=threads)):
        with pytest.raises(InvalidInput, match=rf"^threads={threads} must be from 1 to 1024, or none for as many"):
            refused()
