"""The state of a group's training between two epochs, as a value that can be stored and resumed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from torch import Tensor

from sharpbench.core.curve import Curve
from sharpbench.training.optimizers import Stack, State


@dataclass(frozen=True, slots=True)
class Epoch:
    """The outcome of one epoch for one network.

    Attributes:
        number: the index of the epoch, from 1.
        steps: optimiser steps since the start of the training.
        loss: the mean training loss over the batches of the epoch.
        fitted: the recipe's targets are reached, and a full pass confirms it.
        diverged: the loss or a weight is not finite.
    """

    number: int
    steps: int
    loss: float
    fitted: bool
    diverged: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """A network whose training has ended: its parameters and buffers by name, its last epoch, its training seconds.

    curve: its training curve; empty where a checkpoint of an earlier version held none.
    """

    weights: dict[str, Tensor]
    epoch: Epoch
    seconds: float
    curve: Curve = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingState:
    """The training of a group between two epochs.

    Attributes:
        epoch: epochs so far.
        steps: optimiser steps so far.
        active: the indices in the group of the m networks that are still in training. All stacks hold only these
            networks, in this order.
        params: what is trained, each tensor [m, ...].
        buffers: buffers and parameters that are not trained, each tensor [m, ...].
        optimizer_state: what the optimiser remembers.
        orders: the states of the generators that order the examples, [m, S].
        seconds: the training time of each active network; networks that train together share it equally.
        epochs: the outcome of the last epoch, by index in the group.
        curves: the training curve of each active network, by index in the group.
        finished: the networks that are no longer in training, by index in the group.
    """

    epoch: int
    steps: int
    active: tuple[int, ...]
    params: Stack
    buffers: Stack
    optimizer_state: State
    orders: Tensor
    seconds: tuple[float, ...]
    epochs: Mapping[int, Epoch] = field(default_factory=dict)
    curves: Mapping[int, Curve] = field(default_factory=dict)
    finished: Mapping[int, Finished] = field(default_factory=dict)

    def with_stacks(self, params: Stack, buffers: Stack, optimizer_state: State) -> TrainingState:
        """The state with these stacks, laid out in memory as if read from a file.

        The last bit of a sum depends on the strides, so a resumed training would differ otherwise.
        """
        return replace(
            self,
            params=_contiguous(params),
            buffers=_contiguous(buffers),
            optimizer_state={kind: _contiguous(each) for kind, each in optimizer_state.items()},
        )

    def weights(self, position: int) -> dict[str, Tensor]:
        """Parameters and buffers of the network at `position` of the stacks."""
        return {name: value[position].clone() for name, value in {**self.params, **self.buffers}.items()}

    def select(self, positions: Sequence[int]) -> TrainingState:
        """The state of only the networks at these positions of the stacks."""
        chosen = list(positions)
        active = tuple(self.active[position] for position in chosen)
        return replace(
            self,
            active=active,
            params={name: value[chosen] for name, value in self.params.items()},
            buffers={name: value[chosen] for name, value in self.buffers.items()},
            optimizer_state={
                kind: {name: value[chosen] for name, value in each.items()}
                for kind, each in self.optimizer_state.items()
            },
            orders=self.orders[chosen],
            seconds=tuple(self.seconds[position] for position in chosen),
            curves={index: curve for index, curve in self.curves.items() if index in active},
        )


def _contiguous(stack: Stack) -> Stack:
    return {name: value.contiguous() for name, value in stack.items()}


def pack_state(state: TrainingState) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The state as tensors by name, on the CPU, and a JSON object. `epochs` are not stored."""
    tensors = {"orders": state.orders}
    tensors |= {f"params/{name}": value for name, value in state.params.items()}
    tensors |= {f"buffers/{name}": value for name, value in state.buffers.items()}
    for kind, each in state.optimizer_state.items():
        tensors |= {f"state/{kind}/{name}": value for name, value in each.items()}
    for index, network in state.finished.items():
        tensors |= {f"finished/{index}/{name}": value for name, value in network.weights.items()}
    row = {
        "epoch": state.epoch,
        "steps": state.steps,
        "active": list(state.active),
        "seconds": list(state.seconds),
        "params": list(state.params),
        "buffers": list(state.buffers),
        "state": list(state.optimizer_state),
        "curves": {str(index): dict(curve) for index, curve in state.curves.items()},
        "finished": {
            str(index): {
                **asdict(network.epoch),
                "loss": repr(network.epoch.loss),
                "seconds": network.seconds,
                "curve": dict(network.curve),
            }
            for index, network in state.finished.items()
        },
    }
    return {name: value.cpu() for name, value in tensors.items()}, row


def unpack_state(tensors: Mapping[str, Tensor], row: Mapping[str, Any], *, device: str) -> TrainingState:
    """The state that `pack_state` was given, with its stacks on `device`.

    The last bit of a sum depends on the order of the terms and on the alignment of a tensor in memory. So names keep
    their order, and tensors, which start anywhere in a file, are copied. A state that an earlier version packed has no
    curves; those of its networks then begin where the training goes on.
    """

    def under(prefix: str, names: Sequence[str]) -> Stack:
        return {name: tensors[f"{prefix}/{name}"].to(device, copy=True) for name in names}

    finished = {}
    for index, stored in row["finished"].items():
        of_epoch = {key: value for key, value in stored.items() if key not in ("seconds", "curve")}
        finished[int(index)] = Finished(
            weights=under(f"finished/{index}", row["params"] + row["buffers"]),
            epoch=Epoch(**{**of_epoch, "loss": float(stored["loss"])}),
            seconds=stored["seconds"],
            curve=stored.get("curve", {}),
        )
    return TrainingState(
        epoch=row["epoch"],
        steps=row["steps"],
        active=tuple(row["active"]),
        params=under("params", row["params"]),
        buffers=under("buffers", row["buffers"]),
        optimizer_state={kind: under(f"state/{kind}", row["params"]) for kind in row["state"]},
        orders=tensors["orders"].clone(),
        seconds=tuple(row["seconds"]),
        curves={int(index): curve for index, curve in row.get("curves", {}).items()},
        finished=finished,
    )
