"""Tracker: sharpness in a user's own training loop, which it leaves as it is."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor, nn

from sharpbench.core.batch import Inputs
from sharpbench.core.evaluate import estimate_with
from sharpbench.core.functional import Forward
from sharpbench.core.graph import module_structure
from sharpbench.core.loader import LABELS, is_batch, loader_state_kept, read_loader
from sharpbench.core.measure import Estimate, Measure, NotApplicable
from sharpbench.core.network_facts import at_weights
from sharpbench.core.parameters import Parameters, read_weights
from sharpbench.core.precision import own_types
from sharpbench.core.random_state import random_state_kept
from sharpbench.core.spec import format_spec
from sharpbench.core.subject import Subject
from sharpbench.core.wrappers import unwrap_module
from sharpbench.curvature.all_examples import isolates_examples
from sharpbench.errors import InvalidInput, describe_error
from sharpbench.tracking.budget import TimeBudget
from sharpbench.tracking.dynamics import DynamicsMeasure, Moment
from sharpbench.tracking.measures import DEFAULT_MEASURES, parse_measures
from sharpbench.tracking.optimizer import OptimizerReader, finite_rate
from sharpbench.tracking.rows import NOTE_GAP, row_columns
from sharpbench.tracking.sinks import Row, Sink, describe_sink, make_sinks

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

MAX_EXAMPLES = 512
"""Examples that are taken from a loader, unless limit= says otherwise."""
SEED = 0
"""Seed of the random numbers of measures; the generator of a step adds the number of the step."""


class Tracker:
    """Measures sharpness every few steps of a training loop, within a share of its time.

    The loop calls `step` after each step of its optimizer. The network's weights, gradients, buffers and modes, the
    optimizer's state and all random generators stay as they are: the weights are bit for bit those of a loop without
    a tracker. The network is measured in eval mode, in the types of its weights (half precision as float32), outside
    of autocast. Where torch.distributed runs, only rank 0 measures.

    Args:
        model: the network that is trained; also inside DistributedDataParallel or torch.compile.
        loss: its loss, as `Subject.from_module` takes it: a name, a loss of torch.nn, or a callable that returns
            losses [B].
        data: the examples on which it is measured: one batch (inputs, targets) or a dictionary with labels, or a
            loader of such batches, read once for its first MAX_EXAMPLES examples. Cost grows with their number.
        measures: names with options in brackets, as text or a list of names and Measures: 'top-eigenvalue',
            'critical-sharpness', 'batch-sharpness[size=32]', 'preconditioned-sharpness', 'gradient-norm', and all of
            `sharpbench list measures`.
        every: a measurement is due at every multiple of this number of steps, and at the first call.
        optimizer: read for its learning rate, state and momentum.
        budget: measuring seconds per training second at most, from the second measurement on. One that would exceed
            it is left out and counted in the next row. None for no bound.
        sinks: names of .jsonl and .csv files, objects with `add_scalar` (TensorBoard) or `log` (Weights & Biases).
        forward: as of `Subject.from_module`.
        parameters: as of `Subject.from_module`.
        labels: the key of the targets in batches that are dictionaries.
        limit: the number of examples to hold at most; by default all of one batch, MAX_EXAMPLES of a loader.
        batch_size: examples at a time; by default chosen from the memory that one example's activations take.
        weight_decay: as of `Subject.from_module`.

    Raises:
        InvalidInput: where the arguments do not fit together, one line.

    >>> import torch, sharpbench
    >>> net = torch.nn.Linear(2, 2)
    >>> batch = torch.ones(4, 2), torch.tensor([0, 1, 0, 1])
    >>> with sharpbench.Tracker(net, "cross_entropy", batch, measures="gradient-norm", every=10) as tracker:
    ...     for step in range(20):
    ...         row = tracker.step(step)
    >>> list(tracker.frame.columns)
    ['step', 'learning_rate', '2/eta', 'bound', 'loss', 'gradient-norm', 'seconds', 'share', 'skipped', 'notes']
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Any,
        data: object,
        *,
        measures: str | Sequence[str | Measure] = DEFAULT_MEASURES,
        every: int = 50,
        optimizer: torch.optim.Optimizer | None = None,
        budget: float | None = 0.05,
        sinks: object = (),
        forward: Forward | None = None,
        parameters: Parameters | None = None,
        labels: str = LABELS,
        limit: int | None = None,
        batch_size: int | None = None,
        weight_decay: float = 0.0,
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int) or every < 1:
            raise InvalidInput(f"every={every} must be a number of steps, at least 1")
        self._chosen = parse_measures(measures)
        self._every, self._budget = every, TimeBudget(budget)
        self._sinks: list[Sink] = make_sinks(sinks)
        # an iterator of names would be empty at the second measurement
        self._parameters = parameters if parameters is None or isinstance(parameters, str) else tuple(parameters)
        self._make_subject = partial(
            Subject.from_module,
            loss=loss,
            forward=forward,
            parameters=self._parameters,
            batch_size=batch_size,
            weight_decay=weight_decay,
        )
        if limit is None and not is_batch(data):
            limit = MAX_EXAMPLES
        with random_state_kept(), loader_state_kept(data):
            source = [data] if is_batch(data) else data
            if not isinstance(source, Iterable):
                raise InvalidInput(f"data is a {type(data).__name__}; give (inputs, targets) or a loader of batches")
            self._data: tuple[Inputs, Tensor] = read_loader(source, limit, labels)
        self._model = model
        self._reader = None if optimizer is None else OptimizerReader.of(optimizer, unwrap_module(model))
        self._memory: dict[DynamicsMeasure, Any] = {}
        self._subject: tuple[Subject, object] | None = None
        self._rows: list[Row] = []
        self._estimates: list[dict[str, Estimate]] = []
        self._count, self._skipped = -1, 0
        self._last: int | None = None
        with undisturbed(self._model):
            self._refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Free what measures hold and their view of the network; the rows stay, and a later step measures again."""
        self._subject = None
        self._memory.clear()

    def step(self, step: int | None = None) -> Row | None:
        """The row of a measurement after step number `step`; None where none is due, or the budget leaves it out.

        step: by default the number of earlier calls. What fails in a measure becomes a note of its row; what fails in
        a sink, one warning.
        """
        number = self._count + 1 if step is None else int(step)
        due = self._last is None or number // self._every != self._last // self._every
        if due and _measures_here():
            _finish_kernels()
        self._budget.enter()
        try:
            self._count = number
            if not due or not _measures_here():
                return None
            self._last = number
            if not self._budget.allows():
                self._skipped += 1
                return None
            return self._measure(number)
        finally:
            self._budget.leave()

    @property
    def frame(self) -> pd.DataFrame:
        """The rows so far: one per measurement, one column per measure.

        learning_rate, 2/eta and bound are the optimizer's; bound is that of the preconditioned sharpness (2/eta for SGD
        without momentum). loss: of the tracked examples. seconds: of the measurement. share: seconds of measuring
        and writing rows per second of training so far. skipped: measurements that the budget left out since the last
        row. notes: why values are missing.
        """
        import pandas as pd

        return pd.DataFrame(self._rows, columns=self._columns)

    def plot(self) -> Figure:
        """A matplotlib figure of all measures over the steps, with the line 2/eta and the optimizer's bound."""
        from sharpbench.tracking.plot import draw_rows

        return draw_rows(self._rows)

    @property
    def estimates(self) -> list[dict[str, Estimate]]:
        """For each row of `frame` the estimates by measure: standard errors, products taken, whether converged."""
        return list(self._estimates)

    @property
    def _columns(self) -> list[str]:
        return row_columns([format_spec(each) for each in self._chosen])

    def _measure(self, number: int) -> Row:
        """One row, added to the table and given to the sinks."""
        began = time.perf_counter()
        with undisturbed(self._model):
            values, estimates = self._evaluate(number)
        seconds = time.perf_counter() - began
        self._budget.spend(seconds)
        rate = finite_rate(self._reader)
        row: Row = dict.fromkeys(self._columns)
        row |= {"step": number, "learning_rate": rate, "2/eta": None if rate is None else 2 / rate, **values}
        row |= {"seconds": seconds, "share": self._budget.spent_share, "skipped": self._skipped}
        self._skipped = 0
        self._rows.append(row)
        self._estimates.append(estimates)
        for sink in list(self._sinks):
            try:
                sink.write(row)
            except Exception as error:  # whatever a file system or another library raises
                self._sinks.remove(sink)
                text = f"the tracker stops writing to {describe_sink(sink)}: {describe_error(error)}"
                warnings.warn(text, RuntimeWarning, stacklevel=3)
        self._budget.extend(time.perf_counter() - began - seconds)
        return row

    def _evaluate(self, number: int) -> tuple[Row, dict[str, Estimate]]:
        """The columns that need the network, and the estimates."""
        found: Row = {}
        notes: list[str] = []
        estimates: dict[str, Estimate] = {}
        try:
            subject = self._refresh()
        except Exception as error:  # weights that are not finite; whatever the network's own code raises
            return {"notes": _reason(error)}, estimates
        generator = torch.Generator().manual_seed(SEED + number % 2**32)
        moment = Moment(subject, self._reader, generator, self._memory)
        for chosen in self._chosen:
            name = format_spec(chosen)
            try:
                estimates[name] = self._estimate(chosen, moment)
                found[name] = estimates[name].value
            except Exception as error:  # a measure must not end the training
                notes.append(f"{name}: {_reason(error)}")
        try:
            found["bound"] = None if self._reader is None else self._reader.bound
        except NotApplicable:  # the measure that needs it says why
            found["bound"] = None
        try:
            loss = moment.loss
            found["loss"] = loss if math.isfinite(loss) else None
        except Exception as error:
            notes.append(f"loss: {_reason(error)}")
        return {**found, "notes": NOTE_GAP.join(notes)}, estimates

    def _estimate(self, chosen: DynamicsMeasure | Measure, moment: Moment) -> Estimate:
        if isinstance(chosen, DynamicsMeasure):
            return chosen(moment)
        return estimate_with(chosen, moment.subject, seed=SEED)

    def _refresh(self) -> Subject:
        """The subject at the present weights, made anew where the network has changed other than by its values."""
        model = unwrap_module(self._model)
        form = (module_structure(model), _forms(model))
        if self._subject is not None and self._subject[1] == form:
            subject = at_weights(self._subject[0], read_weights(model, self._parameters), (isolates_examples,))
        else:
            self._memory.clear()
            inputs, targets = self._data
            subject = self._make_subject(model, inputs, targets)
        self._subject = subject, form
        return subject

    def __getstate__(self) -> dict[str, Any]:
        """All but the subject, which is made anew."""
        return {**self.__dict__, "_subject": None}


def _finish_kernels() -> None:
    """Waits for the steps of training that a GPU still computes, so that their time counts as training."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


@contextmanager
def undisturbed(model: nn.Module) -> Iterator[None]:
    """Inside, gradients are taken as usual and without autocast; afterwards random generators are as before."""
    with random_state_kept(model), own_types(), torch.enable_grad():
        yield


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, NotApplicable | InvalidInput) else describe_error(error)


def _forms(model: nn.Module) -> tuple[object, ...]:
    """What the tensors of a network are without their values: names, shapes, types, devices, and what is trained."""
    tensors = (*model.named_parameters(), *model.named_buffers())
    return tuple((name, value.shape, value.dtype, value.device, value.requires_grad) for name, value in tensors)


def _measures_here() -> bool:
    """Whether this process measures: the only one, or rank 0."""
    distributed = torch.distributed
    return not (distributed.is_available() and distributed.is_initialized()) or distributed.get_rank() == 0
