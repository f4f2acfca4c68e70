"""What a measure leaves behind is found after it, named, and undone where that is possible."""

from __future__ import annotations

import _thread
import gc
import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sharpbench import Subject
from sharpbench.runner import child_processes
from sharpbench.runner.child_processes import list_children
from sharpbench.runner.process_settings import ProcessSettings
from sharpbench.runner.replaced_functions import ReplacedFunctions
from sharpbench.runner.sentinel import sentinel_values
from sharpbench.runner.side_effects import SideEffectGuard


@pytest.fixture
def subject() -> Subject:
    """A small network with its initial weights and six examples."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    initial = {name: value.detach().clone() for name, value in module.named_parameters()}
    return Subject.from_module(module, torch.randn(6, 3), torch.tensor([0, 1] * 3), initial=initial)


def write_without_version(subject: Subject) -> None:
    next(iter(subject.params.values())).data.mul_(2.0)


def write_through_numpy(subject: Subject) -> None:
    subject.inputs.numpy()[0, 0] += 1.0


def remove_a_key(subject: Subject) -> None:
    subject.params.pop("0.bias")


def replace_a_tensor(subject: Subject) -> None:
    subject.params["0.bias"] = subject.params["0.bias"].clone()


def require_gradients(subject: Subject) -> None:
    subject.params["0.bias"].requires_grad_()


def write_initial(subject: Subject) -> None:
    assert subject.initial is not None
    subject.initial["0.bias"].add_(1.0)


def write_module(subject: Subject) -> None:
    with torch.no_grad():
        next(subject.module.parameters()).mul_(3.0)


def hook_module(subject: Subject) -> None:
    subject.module[0].register_forward_hook(lambda *_: None)


def swap_a_part(subject: Subject) -> None:
    subject.module[1] = nn.ReLU()


@pytest.mark.parametrize(
    ("write", "named"),
    [
        (lambda subject: subject.targets.mul_(0), "targets"),
        (write_without_version, "params[0.weight]"),
        (write_through_numpy, "inputs"),
        (remove_a_key, "params[0.bias]"),
        (replace_a_tensor, "params[0.bias]"),
        (require_gradients, "params[0.bias]"),
        (write_initial, "initial[0.bias]"),
        (write_module, "module.0.weight"),
        (hook_module, "module.0"),
        (swap_a_part, "module"),
        (lambda subject: object.__setattr__(subject, "criterion", None), "criterion"),
    ],
)
def test_what_is_written_to_is_named(subject: Subject, write: Callable[[Subject], object], named: str) -> None:
    guard = SideEffectGuard(subject)
    guard.begin()
    write(subject)
    found = guard.finish()
    assert named in found.written
    assert found.reason.startswith("the measure wrote to ")
    assert (found.settings, found.replaced, found.threads, found.lasting) == ((), (), (), ())
    guard.begin()
    assert not guard.finish()  # told once


def test_results_that_measures_share_are_watched(subject: Subject) -> None:
    def gradient(of: Subject) -> dict[str, Tensor]:
        return torch.func.grad(of.loss)(of.params)

    guard = SideEffectGuard(subject)
    guard.begin()
    shared = subject.once(gradient)
    assert not guard.finish()
    guard.begin()
    shared["0.bias"].zero_()
    assert guard.finish().written == ("results that measures share",)


def test_an_honest_measure_leaves_nothing(subject: Subject) -> None:
    guard = SideEffectGuard(subject, subject.to(dtype=torch.float64))
    before = torch.get_rng_state()
    guard.begin()
    for value in torch.func.grad(subject.loss)(subject.params).values():
        torch.randn_like(value)  # generators are restored without a word
    assert subject.graph is not None
    thread = threading.Thread(target=time.sleep, args=(0.01,))
    thread.start()
    assert not guard.finish()
    assert torch.equal(before, torch.get_rng_state())


def nest_transforms() -> None:
    torch._C._functorch._grad_increment_nesting()


def hook_all_modules() -> None:
    nn.modules.module.register_module_forward_hook(lambda *_: None)


def hook_saved_tensors() -> None:
    torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x).__enter__()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda: torch.set_default_dtype(torch.float64), "torch's default dtype"),
        (lambda: torch.set_default_device("meta"), "torch's default device"),
        (lambda: torch.set_num_threads(torch.get_num_threads() + 1), "torch's threads"),
        (lambda: torch.set_grad_enabled(False), "torch's gradients"),
        (lambda: torch.use_deterministic_algorithms(True), "torch's deterministic algorithms"),
        (nest_transforms, "torch's function transforms"),
        (hook_all_modules, "torch's hooks of all modules"),
        (hook_saved_tensors, "torch's hooks of saved tensors"),
        (lambda: signal.signal(signal.SIGUSR1, lambda *_: None), "the signal handlers"),
        (lambda: signal.setitimer(signal.ITIMER_VIRTUAL, 1e6), "the timers of the process"),
        (lambda: os.umask(0o777), "the mask of file modes"),
        (lambda: os.chdir("/"), "the working folder"),
        (lambda: sys.setrecursionlimit(sys.getrecursionlimit() + 1), "Python's recursion limit"),
        (lambda: sys.setswitchinterval(5.0), "Python's interval between threads"),
        (lambda: gc.set_threshold(1), "Python's garbage collector"),
        (lambda: torch.backends.cuda.enable_flash_sdp(False), "torch's fused attention"),
        (lambda: torch.backends.nnpack.set_flags(False), "torch's NNPACK flag"),
    ],
)
def test_settings_are_restored_and_named(change: Callable[[], object], named: str) -> None:
    settings = ProcessSettings()
    change()
    assert named in settings.restore()
    assert settings.lasting == ()
    assert ProcessSettings().restore() == ()


def test_the_profile_function_is_removed() -> None:
    """Without a restored one coverage would end here; it is set anew."""
    before, settings = sys.getprofile(), ProcessSettings()
    sys.setprofile(lambda *_: None)
    assert settings.restore() == ("Python's profile function",)
    assert sys.getprofile() is before


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="the system does not tell")
def test_processors_are_given_back() -> None:
    there = os.sched_getaffinity(0)
    if len(there) < 2:
        pytest.skip("one processor only")
    settings = ProcessSettings()
    os.sched_setaffinity(0, {min(there)})
    assert settings.restore() == ("the processors of the process",)
    assert os.sched_getaffinity(0) == there


def test_modules_that_were_there_are_there_again() -> None:
    settings = ProcessSettings()
    sys.modules["json"] = None  # type: ignore[assignment]
    sys.path.insert(0, "/nowhere")
    assert settings.restore() == ()
    assert sys.modules["json"] is json
    assert "/nowhere" not in sys.path


def test_a_thread_that_threading_does_not_know_is_found(subject: Subject) -> None:
    guard, end, running = SideEffectGuard(subject), threading.Event(), threading.Event()
    guard.begin()
    ident = _thread.start_new_thread(lambda: (running.set(), end.wait(), running.clear()), ())
    assert running.wait(10)
    found = guard.finish()
    end.set()
    assert found.threads == found.lasting == (f"the thread {ident} of the module _thread",)
    while running.is_set():
        time.sleep(0.001)


def test_variables_and_generators_are_restored_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHARPBENCH_TEST", "kept")
    settings, drawn = ProcessSettings(), random.getstate()
    os.environ.clear()
    random.random()
    assert settings.restore() == ()
    assert (os.environ["SHARPBENCH_TEST"], random.getstate()) == ("kept", drawn)


@pytest.mark.parametrize(
    ("space", "name"),
    [
        *((torch.Tensor, "double"), (torch.Tensor, "mul"), (math, "exp"), (Subject, "loss"), (torch, "dot")),
        (child_processes, "PROCESS_SECONDS"),
    ],
)
def test_replaced_functions_are_put_back(space: Any, name: str) -> None:
    """Also where a function of a parent is hidden, as `mul` of Tensor is."""
    original, inherited = getattr(space, name), name not in vars(space)
    functions = ReplacedFunctions()
    setattr(space, name, lambda *_: 2.0)
    assert functions.restore() == (f"{space.__name__}.{name}",)
    assert getattr(space, name) is original or inherited
    assert (name not in vars(space)) == inherited
    assert functions.restore() == ()


def test_a_timer_is_cancelled_and_a_thread_lasts(subject: Subject) -> None:
    guard, fired, end = SideEffectGuard(subject), threading.Event(), threading.Event()
    guard.begin()
    threading.Timer(0.5, fired.set).start()
    found = guard.finish()
    assert len(found.threads) == 1
    assert not found.lasting
    guard.begin()
    thread = threading.Thread(target=end.wait, name="left")
    thread.start()
    found = guard.finish()
    end.set()
    thread.join()
    assert found.threads == found.lasting == ("the thread 'left'",)
    assert found.reason == "the measure left running the thread 'left'; end them before returning"
    assert not fired.is_set()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="it is read from /proc")
def test_processes_are_named_and_ended_with_all_below_them(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was there before stays, and one that ends in time is not counted."""
    monkeypatch.setattr(child_processes, "PROCESS_SECONDS", 0.1)
    before = {child.pid for child in list_children()}  # of other tests
    there = subprocess.Popen(["sleep", "60"])
    guard = SideEffectGuard(subject)
    guard.begin()
    done = subprocess.Popen(["true"])
    left = subprocess.Popen(["sh", "-c", "sleep 60.03125 & wait"])
    found = guard.finish()
    assert found.processes == (f"the process {left.pid} (sh -c sleep 60.03125 & wait)",)
    assert found.reason == f"the measure left running {found.processes[0]}; end them before returning"
    assert left.wait(10) == -signal.SIGKILL
    assert found
    assert not found.lasting
    assert {child.pid for child in list_children()} - before == {there.pid}
    guard.begin()
    assert not guard.finish()
    there.kill()
    assert (there.wait(), done.wait()) == (-signal.SIGKILL, 0)


def test_the_sentinel_sees_what_no_setting_shows(subject: Subject) -> None:
    """Subnormal numbers are flushed to zero: a mode of the processor that torch cannot read."""
    guard = SideEffectGuard(subject)
    assert sentinel_values() == sentinel_values()
    guard.begin()
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor does not flush subnormal numbers")
    try:
        found = guard.finish()
    finally:
        torch.set_flush_denormal(False)
    assert found.lasting == ("what torch and Python compute",)
    assert found.reason == "the measure changed what torch and Python compute; undo it before returning"


@pytest.mark.slow
def test_the_sentinel_needs_no_assertions_and_no_tolerance_of_warnings() -> None:
    """Under `python -O` torch leaves out some forward derivatives, and it warns about its own code."""
    code = "import torch, warnings; warnings.simplefilter('error')\n"
    code += "from sharpbench.runner.sentinel import sentinel_values; print(len(sentinel_values()))"
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == (f"{len(sentinel_values())}\n", "")
