"""measure(): one measure, by name or as an object, on one subject."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from sharpbench_measures import Normalized, Trace

from sharpbench import Estimate, InvalidInput, Measure, NotApplicable, Subject, measure
from sharpbench.core.evaluate import parse_measure
from sharpbench.core.measure import Invariance
from sharpbench.core.registry import available


@dataclass(frozen=True)
class Returns(Measure):
    name: ClassVar[str] = "returns"
    title: ClassVar[str] = "what it is set to"
    source: ClassVar[str] = "tests"
    held: Any = None

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        if isinstance(self.held, Exception):
            raise self.held
        return self.held  # type: ignore[no-any-return]

    def exact(self, subject: Subject) -> float | None:
        return None

    def invariances(self) -> frozenset[Invariance]:
        return frozenset()


@dataclass(frozen=True)
class Raises(Returns):
    """Looks something up in torch that is not there."""

    name: ClassVar[str] = "raises"

    def __call__(self, subject: Subject, *, generator: torch.Generator) -> Estimate:
        return torch.nn.ModuleDict()["Jvp"]  # type: ignore[return-value]


def subject() -> Subject:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    return Subject.from_module(network, torch.randn(8, 3), torch.arange(8) % 2)


@pytest.mark.parametrize(
    ("word", "chosen"),
    [
        ("trace", Trace()),
        ("trace[method=hutchinson,samples=5]", Trace(method="hutchinson", samples=5)),
        ("normalized[diagonal=icml]", Normalized(diagonal="icml")),
    ],
)
def test_a_word_is_the_object_that_it_names(word: str, chosen: Measure) -> None:
    given = subject()
    assert parse_measure(word) == chosen
    assert measure(word, given, seed=3) == measure(chosen, given, seed=3)


class Root(torch.nn.Module):
    """The root of rectified units: its derivative along the weights is 0 times infinity where a unit is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.two(self.one(inputs).relu().sqrt())  # type: ignore[no-any-return]


class Undefined(torch.nn.Module):
    """Logits that are NaN where the first input is negative."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Linear(4, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.one(inputs) + 0 * inputs[:, :1].log()  # type: ignore[no-any-return]


def made(module: torch.nn.Module, dtype: torch.dtype, *, negative: int | None = None) -> Subject:
    torch.manual_seed(0)
    inputs = torch.randn(8, 4, dtype=dtype).abs()
    if negative is not None:
        inputs[negative] *= -1
    return Subject.from_module(module.to(dtype), inputs, torch.arange(8) % 3)


def test_values_that_are_not_finite_are_refused_with_their_cause() -> None:
    torch.manual_seed(0)
    dtype = torch.float32
    rooted = made(Root(), dtype)
    for word in ("fisher-rao", "igs"):
        reason = f"'{word}' has no finite value: the derivative of the outputs of example . along the weights is not"
        with pytest.raises(NotApplicable, match=reason):
            measure(word, rooted)
    undefined = made(Undefined(), dtype, negative=5)
    for word in ("gradient-norm", "ggn-trace", "fisher-rao", "normalized", "margin", "top-eigenvalue", "trace"):
        with pytest.raises(NotApplicable, match=f"'{word}' has no finite value: the loss of example 5 is nan"):
            measure(word, undefined)
    with pytest.raises(NotApplicable, match="no finite value: the loss of example 5 is nan"):
        measure("normalized", made(Undefined(), torch.float64, negative=5), jackknife=2)


def test_a_measure_that_is_not_finite_on_a_finite_network_is_at_fault() -> None:
    with pytest.raises(ValueError, match="an estimate's value must be finite"):
        measure(Returns(ValueError("an estimate's value must be finite, got nan")), subject())


def test_gradients_that_are_not_finite_are_named() -> None:
    class Corner(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.head = torch.nn.Parameter(torch.zeros(1)), torch.nn.Linear(4, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.head(inputs) * self.scale.sqrt()  # type: ignore[no-any-return]

    with pytest.raises(NotApplicable, match="the gradient of the loss by 'scale' is not finite"):
        measure("gradient-norm", made(Corner(), torch.float64))


def test_second_derivatives_that_are_not_finite_are_named() -> None:
    """On an example beyond those on which second derivatives are checked beforehand."""

    class Power(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.two = torch.nn.Linear(4, 5), torch.nn.Linear(5, 3)

        def forward(self, inputs: torch.Tensor) -> torch.Tensor:
            return self.two(self.one(inputs).abs() ** 1.5)  # type: ignore[no-any-return]

    model = Power().double()
    torch.nn.init.zeros_(model.one.bias)
    inputs = torch.randn(40, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inputs[11] = 0
    given = Subject.from_module(model, inputs, torch.arange(40) % 3, batch_size=4)
    with pytest.raises(NotApplicable, match="second derivatives of the loss of example 11 are not finite"):
        measure("trace", given)


def test_several_measures_are_a_dictionary() -> None:
    given = subject()
    words = ["trace", "normalized[diagonal=icml]"]
    alone = {word: measure(word, given) for word in words}
    assert measure(",".join(words), given) == alone
    assert measure(words, given) == alone
    assert measure([Trace(), "normalized[diagonal=icml]"], given) == alone
    assert measure(["trace"], given) == {"trace": alone["trace"]}
    assert measure([], given) == {}
    with pytest.raises(InvalidInput, match="1 is not a measure"):
        measure([Trace(), 1], given)  # type: ignore[list-item]


def test_all_measures_are_those_that_have_a_value(monkeypatch: pytest.MonkeyPatch) -> None:
    classes = available("measures").classes
    few = {name: classes[name] for name in ("distance-from-initialisation", "trace", "parameter-norm")}
    monkeypatch.setattr("sharpbench.core.evaluate.available", lambda kind: SimpleNamespace(classes=few))
    given = subject()
    assert list(measure("all", given)) == ["trace", "parameter-norm"]
    with pytest.raises(NotApplicable, match="the weights before training are not known"):
        measure("distance-from-initialisation,trace", given)


def test_probes_are_those_of_the_seed() -> None:
    given = subject()
    one, other = (measure("trace[method=hutchinson,samples=5]", given, seed=seed) for seed in (3, 2**64 - 1))
    assert one.value != other.value


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_has_64_bits(seed: int) -> None:
    with pytest.raises(InvalidInput, match=f"seed={seed} must be from 0 to 18446744073709551615"):
        measure("trace", subject(), seed=seed)


@pytest.mark.parametrize("word", ["trace,minimun", "trace[samples=x]", "trace[", ""])
def test_bad_words_are_one_line(word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        measure(word, subject())
    assert str(caught.value).isprintable()


def test_a_module_is_no_subject() -> None:
    """What a newcomer tries first."""
    with pytest.raises(InvalidInput, match=r"^Linear\(.* is not a subject; give Subject.from_module\(model, inp"):
        measure("trace", torch.nn.Linear(3, 2))  # type: ignore[arg-type]


@pytest.mark.parametrize("held", [None, 1.5, torch.ones(()), (1.0, 0.0)], ids=repr)
def test_what_is_no_estimate_is_named(held: Any) -> None:
    with pytest.raises(TypeError, match=r"measure 'returns' returns .*, not an Estimate; return Estimate\(value\)"):
        measure(Returns(held), subject())


def test_what_a_measure_raises_comes_through() -> None:
    with pytest.raises(NotApplicable, match="not here"):
        measure(Returns(NotApplicable("not here")), subject())
    with pytest.raises(ArithmeticError, match="out of luck"):
        measure(Returns(ArithmeticError("out of luck")), subject())


BUFFERS = """
import json, resource, torch
from sharpbench import Estimate, Measure, Subject, measure
from sharpbench.core.loss import to_per_example_loss

class Buffers(Measure):
    name, title, source = "buffers", "page faults of 32 MiB in blocks of 2 MiB", "tests"
    def __call__(self, subject, *, generator):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [torch.ones(2**19) for _ in range(16)]
        return Estimate(float(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before))
    def exact(self, subject): return None
    def invariances(self): return frozenset()

torch.set_num_threads(1)
# as from_module makes it, but without its checks, for which torch imports more of itself for seconds
subject = Subject(
    name="none", module=torch.nn.Identity(), params={}, constants={}, inputs=torch.ones(2, 2),
    targets=torch.zeros(2, dtype=torch.long), criterion=to_per_example_loss("cross_entropy"), batch_size=2,
)
print(json.dumps([measure(Buffers(), subject).value for _ in range(4)]))
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in os.confstr_names, reason="the allocator is not glibc's")
def test_later_calls_reuse_the_memory_of_earlier_ones() -> None:
    """In a plain script glibc would return each chunk's buffers to the system: 8,000 page faults in every call."""
    done = subprocess.run([sys.executable, "-c", BUFFERS], capture_output=True, text=True, timeout=120, check=True)
    first, *later = json.loads(done.stdout)
    assert max(later) < 0.1 * first


def test_a_transform_that_torch_lacks_is_a_refusal() -> None:
    with pytest.raises(NotApplicable, match="torch cannot differentiate the network: it has no rule for 'Jvp'"):
        measure(Raises(), subject())
    with pytest.raises(KeyError, match="own"):
        measure(Returns(KeyError("own")), subject())
