"""Measures that misbehave, as a plugin file, and cells of them on a tiny network that stands in the cache."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from sharpbench import Cell, Record, plan, run
from sharpbench.core.registry import available
from sharpbench.runner.engines.engine import Engine

PLUGIN = """
import ctypes, os, random, signal, sys, threading, time
from dataclasses import dataclass, replace
from pathlib import Path
import torch
from sharpbench import Estimate, Measure, NotApplicable

@dataclass(frozen=True)
class Odd(Measure):
    name, title, source = "odd", "a measure that misbehaves", "tests"
    way: str = "sleeps"
    number: int = 0
    seconds: float = 0.0
    folder: str = ""

    def exact(self, subject):
        return None

    def invariances(self):
        return frozenset()

    def __call__(self, subject, *, generator):
        match self.way:
            case "sleeps":
                time.sleep(self.seconds)
            case "segfaults":
                ctypes.string_at(0)
            case "leaks":
                held = []
                while True:
                    held.append(torch.ones(2**22))
            case "hoards":
                held = []
                while True:
                    held.append(b"x" * 2**26)
            case "never":
                while True:
                    pass
            case "exits":
                os._exit(3)
            case "leaves":
                raise SystemExit(7)
            case "killed":
                with (Path(self.folder) / "times").open("a") as file:
                    file.write("x")
                os.kill(os.getpid(), signal.SIGKILL)
            case "killed once":
                mark = Path(self.folder) / "mark"
                if not mark.exists():
                    mark.write_text("")
                    os.kill(os.getpid(), signal.SIGKILL)
            case "ended once":
                mark = Path(self.folder) / "ended"
                if not mark.exists():
                    mark.write_text("")
                    os.kill(os.getpid(), signal.SIGTERM)
            case "writes":
                for value in subject.params.values():
                    value.mul_(2.0)
            case "removes":
                subject.params.popitem()
            case "replaces":
                torch.Tensor.abs = lambda self: self * 0.0
            case "starts a process":
                os.posix_spawnp("sleep", ["sleep", "61"], os.environ)
            case "starts and never ends":
                os.posix_spawnp("sleep", ["sleep", self.folder], os.environ)
                time.sleep(60)
            case "waits on":
                threading.Timer(60.0, print).start()
            case "starts a thread":
                ended = threading.Event()
                left = threading.Thread(target=ended.wait, args=(3600.0,), daemon=True, name="left")
                left.ended = ended  # for the test, where this is its process
                left.start()
            case "sums":
                return Estimate(sum(float(value.double().abs().sum()) for value in subject.params.values()))
            case "forks":
                os.fork()
                return Estimate(float(os.getppid() > 0))
            case "garbles":
                for descriptor in range(3, 64):
                    try:
                        if "socket" in os.readlink(f"/proc/self/fd/{descriptor}"):
                            os.write(descriptor, b"\\x00\\x00\\x00\\x05hello")
                    except OSError:
                        pass
            case "prints":
                for line in range(100_000):
                    print("line", line)
            case "says":
                print("a word \\x1b[2J")
                print("and one more", file=sys.stderr)
            case "sets":
                torch.set_default_dtype(torch.float64)
                torch.set_grad_enabled(False)
                torch.manual_seed(5)
            case "looks":
                assert torch.get_default_dtype() == torch.float32
                assert torch.is_grad_enabled()
            case "interrupts":
                raise KeyboardInterrupt
            case "refuses":
                raise NotApplicable("not here")
            case "pid":
                return Estimate(float(os.getpid()))
            case "alone":
                Path(self.folder, f"{time.monotonic_ns()} begin {self.number}").write_text("")
                time.sleep(self.seconds)
                Path(self.folder, f"{time.monotonic_ns()} end {self.number}").write_text("")
            case "divided" | "outside" | "apart" | "lost one" | "batchless":
                return Estimate(self.divided(replace(subject, batch_size=3)))
            case "gpu":
                return Estimate(float(os.environ.get("CUDA_VISIBLE_DEVICES", "-1")))
        return Estimate(1.0)

    def divided(self, subject):  # of the gradient, batch by batch, in one of several ways; 8 examples, three batches
        def loss(params, inputs, targets):
            return subject.criterion(subject.apply(params, inputs), targets).mean()

        def slope(inputs, targets):
            return torch.func.grad(loss)(subject.params, inputs, targets)

        rank = 0 if subject.process_group is None else subject.process_group.rank
        if self.way == "outside":
            found = torch.func.grad(subject.loss)(subject.params)
        elif self.way == "batchless":
            found = slope(subject.inputs, subject.targets)
        elif self.way == "lost one" and rank == 1:
            raise ArithmeticError("only the second")
        else:
            found = subject.mean(slope)
            if self.way == "apart" and rank == 1:
                subject.mean(slope)
        once = subject.once(self.curvature) if self.way == "divided" else 0.0
        return sum(float(value.square().sum()) for value in found.values()) + once

    @staticmethod
    def curvature(subject):
        import sharpbench

        return sum(sharpbench.measure(name, subject).value for name in ("ggn-trace", "fisher-rao", "gradient-norm"))

MEASURES = (Odd,)
"""
COHORT = "label-noise[ratios={ratios},seeds=1,train_size=32,max_epochs=2]"

Plan = Callable[..., tuple[Cell, ...]]
Ran = Callable[..., list[Record]]


@pytest.fixture(scope="session")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("odd") / "odd.py"
    path.write_text(PLUGIN, encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def odd(plugin: Path) -> Any:
    """The class of the plugin's measure."""
    return available("measures", [plugin]).classes["odd"]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def planned(plugin: Path) -> Plan:
    """Cells of these measures on two or more networks."""

    def of(measures: Sequence[Any], ratios: int = 2, **options: Any) -> tuple[Cell, ...]:
        usual = {"device": "cpu", "timing": 0, "oracle": 0, "invariance": 0, "examples": 8, "plugins": (plugin,)}
        return plan(measures, "small-mlp", cohort=COHORT.format(ratios=ratios), **{**usual, **options})

    return of


@pytest.fixture
def ran(plugin: Path, cache: Path) -> Ran:
    """The records of cells on an engine."""

    def of(cells: Sequence[Cell], engine: Engine | str, **options: Any) -> list[Record]:
        usual = {"cache_dir": cache, "threads": 1, "plugins": (plugin,)}
        return list(run(cells, engine=engine, **{**usual, **options}))

    return of
