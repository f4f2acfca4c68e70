"""Networks inside the wrappers of training."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

from sharpbench import measure
from sharpbench.core.subject import Subject
from sharpbench.errors import InvalidInput

X, Y = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).double(), torch.arange(5) % 2


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        DistributedDataParallel,
        lambda module: torch.compile(DistributedDataParallel(module)),
    ],
)
@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_the_network_inside_a_wrapper_is_measured(wrap: Callable[[nn.Module], nn.Module]) -> None:
    plain = Subject.from_module(network(), X, Y)
    wrapped = wrap(network())
    subject = Subject.from_module(wrapped, X, Y, initial=wrapped.state_dict(), parameters="0.*")
    assert (subject.name, list(subject.params)) == ("Sequential", ["0.weight", "0.bias"])
    first = Subject.from_module(wrapped, X, Y, parameters=next(iter(wrapped.state_dict())))
    assert list(first.params) == ["0.weight"]
    assert subject.initial is not None
    assert list(subject.initial) == list(plain.params)
    whole = Subject.from_module(wrapped, X, Y)
    assert measure("ggn-trace", whole).value == measure("ggn-trace", plain).value


@pytest.mark.usefixtures("one_process")
@pytest.mark.filterwarnings("ignore")
def test_fully_sharded_networks_are_taken_unsharded_or_refused() -> None:
    plain = measure("ggn-trace", Subject.from_module(network(), X, Y)).value
    sharded = FullyShardedDataParallel(network(), device_id=torch.device("cpu"))
    with pytest.raises(InvalidInput, match=r"the model is sharded \(FullyShardedDataParallel\); load the full weights"):
        Subject.from_module(sharded, X, Y)
    with FullyShardedDataParallel.summon_full_params(sharded):
        assert measure("ggn-trace", Subject.from_module(sharded, X, Y)).value == plain
    divided = network()
    fully_shard(divided)
    with pytest.raises(InvalidInput, match=r"the model is sharded \(FSDPSequential\); load the full weights"):
        Subject.from_module(divided, X, Y)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_modules_of_torch_jit_are_refused_also_inside() -> None:
    scripted = torch.jit.script(network())
    with pytest.raises(InvalidInput, match=r"the model is compiled by torch\.jit; give the module"):
        Subject.from_module(scripted, X, Y)
    with pytest.raises(InvalidInput, match=r"its part '0' is compiled by torch\.jit; give the module"):
        Subject.from_module(nn.Sequential(scripted, nn.Tanh()), X, Y)
