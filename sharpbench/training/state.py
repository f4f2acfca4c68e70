"""Stage: where the training of a group stands after an epoch, as a value that can be stored and taken up again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from sharpbench.training.optimizers import Stack, State


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch came to for one network: its number from 1, steps so far, the mean loss of its batches.

    fitted: the targets are reached, and a full pass confirms it. diverged: the loss or a weight is not finite.
    """

    number: int
    steps: int
    loss: float
    fitted: bool
    diverged: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """A network that has left its group: parameters and buffers by name, its last epoch, its share of the time."""

    weights: dict[str, Tensor]
    epoch: Epoch
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """Between two epochs. `active`: the networks still in training, by their places in the group.

    params, buffers and state hold those alone, in this order; orders [m, S]: the states of the generators that
    order their examples; seconds: their shares of the time; epochs: what the last epoch came to, by network;
    finished: the others.
    """

    epoch: int
    steps: int
    active: tuple[int, ...]
    params: Stack
    buffers: Stack
    state: State
    orders: Tensor
    seconds: tuple[float, ...]
    epochs: Mapping[int, Epoch] = field(default_factory=dict)
    finished: Mapping[int, Finished] = field(default_factory=dict)

    def holding(self, params: Stack, buffers: Stack, state: State) -> TrainingState:
        """The stage with these stacks, laid out as if read from a file: sums depend, in the last bit, on strides."""
        return replace(
            self,
            params=_contiguous(params),
            buffers=_contiguous(buffers),
            state={kind: _contiguous(each) for kind, each in state.items()},
        )

    def weights(self, place: int) -> dict[str, Tensor]:
        """Parameters and buffers of the network at `place` of the stack."""
        return {name: value[place].clone() for name, value in {**self.params, **self.buffers}.items()}

    def at(self, places: Sequence[int]) -> TrainingState:
        """The stage of the networks at these places alone."""
        chosen = list(places)
        return replace(
            self,
            active=tuple(self.active[place] for place in chosen),
            params={name: value[chosen] for name, value in self.params.items()},
            buffers={name: value[chosen] for name, value in self.buffers.items()},
            state={kind: {name: value[chosen] for name, value in each.items()} for kind, each in self.state.items()},
            orders=self.orders[chosen],
            seconds=tuple(self.seconds[place] for place in chosen),
        )


def _contiguous(stack: Stack) -> Stack:
    return {name: value.contiguous() for name, value in stack.items()}


def pack_state(stage: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The stage as tensors by name, on the CPU, and a JSON object; `epochs` are not kept."""
    tensors = {"orders": stage.orders}
    tensors |= {f"params/{name}": value for name, value in stage.params.items()}
    tensors |= {f"buffers/{name}": value for name, value in stage.buffers.items()}
    for kind, each in stage.state.items():
        tensors |= {f"state/{kind}/{name}": value for name, value in each.items()}
    for index, network in stage.finished.items():
        tensors |= {f"finished/{index}/{name}": value for name, value in network.weights.items()}
    row = {
        "epoch": stage.epoch,
        "steps": stage.steps,
        "active": list(stage.active),
        "seconds": list(stage.seconds),
        "params": list(stage.params),
        "buffers": list(stage.buffers),
        "state": list(stage.state),
        "finished": {
            str(index): {**asdict(network.epoch), "loss": repr(network.epoch.loss), "seconds": network.seconds}
            for index, network in stage.finished.items()
        },
    }
    return {name: value.cpu() for name, value in tensors.items()}, row


def unpack_state(tensors: Mapping[str, Tensor], row: Mapping[str, Any], *, device: str) -> TrainingState:
    """The stage that `pack_state` made these of, its stacks on `device`.

    Sums depend, in the last bit, on order and on where in memory a tensor lies: names come back in the order that
    they had, and tensors, which lie anywhere in a file, are copied.
    """

    def under(prefix: str, names: Sequence[str]) -> Stack:
        return {name: tensors[f"{prefix}/{name}"].to(device, copy=True) for name in names}

    finished = {}
    for index, kept in row["finished"].items():
        loss, seconds = float(kept["loss"]), kept["seconds"]
        epoch = Epoch(**{**{key: value for key, value in kept.items() if key != "seconds"}, "loss": loss})
        weights = under(f"finished/{index}", row["params"] + row["buffers"])
        finished[int(index)] = Finished(weights=weights, epoch=epoch, seconds=seconds)
    return TrainingState(
        epoch=row["epoch"],
        steps=row["steps"],
        active=tuple(row["active"]),
        params=under("params", row["params"]),
        buffers=under("buffers", row["buffers"]),
        state={kind: under(f"state/{kind}", row["params"]) for kind in row["state"]},
        orders=tensors["orders"].clone(),
        seconds=tuple(row["seconds"]),
        finished=finished,
    )
