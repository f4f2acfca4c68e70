"""Inspection: the numbers of one network, at the weights of one file or of many."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from sharpbench.core.fields import Scalar
from sharpbench.core.jsonl import JsonlFile
from sharpbench.core.measure import Measure
from sharpbench.core.record import Record
from sharpbench.core.records import RECORDS, iterate_records
from sharpbench.core.spec import format_spec, to_config
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Dataset, Examples, Subset, content_sha256
from sharpbench.environment import apply_settings, describe_environment
from sharpbench.errors import InvalidInput, short
from sharpbench.files import content_hash, data_folder
from sharpbench.models.file import File
from sharpbench.models.model import Model
from sharpbench.models.timm import Enlarged, Timm
from sharpbench.runner.evaluate_cell import Checks, evaluate_measure
from sharpbench.training.weights import find_weight_files, hash_file, load_weights, read_weights

LARGEST = 10**6
"""Of numbers of classes and of batches: above it a slip of the keyboard is likelier than a wish."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEvaluation:
    """What is measured: measures on one network, at weights, on examples.

    weights: 'random' (seeded), 'pretrained' (timm's; downloaded where its cache does not hold them), or the name or
    pattern of files. classes: outputs of the network, by default the classes of the data; of no effect on a network
    that settles them itself. batch_size: None chooses it from memory.
    """

    model: Model
    measures: tuple[Measure, ...]
    dataset: Dataset
    weights: str = "random"
    subset: Subset = field(default_factory=Subset)
    classes: int | None = None
    batch_size: int | None = None
    seed: int = 0
    dtype: str = "float32"
    device: str = "cpu"
    asked: Checks = field(default_factory=Checks)

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**64:
            raise InvalidInput(f"seed={self.seed} must be from 0 to {2**64 - 1}")
        if self.dtype not in ("float32", "float64"):
            raise InvalidInput(f"dtype '{short(self.dtype)}' is none of float32, float64")
        for name, value in (("classes", self.classes), ("batch_size", self.batch_size)):
            if value is not None and not 1 <= value <= LARGEST:
                raise InvalidInput(f"{name}={value} must be from 1 to {LARGEST}")

    @property
    def title(self) -> str:
        """The network as it is typed."""
        return f"{self.model.path}:{self.model.factory}" if isinstance(self.model, File) else format_spec(self.model)


@dataclass(frozen=True, slots=True)
class NetworkWeights:
    """The weights of one file, or none of any: the source's name, its hash, and the module that holds them.

    frozen: how many of its tensors are left out of measurement, because they do not require gradients.
    """

    source: str
    sha256: str
    module: nn.Module
    frozen: int = 0


@dataclass(frozen=True, slots=True)
class WeightsStarted:
    """Progress: the measure that begins, at the weights of `source`."""

    source: str
    measure: str


def evaluate_network(
    inspection: NetworkEvaluation,
    *,
    output: Path | str | None = None,
    data_dir: Path | str | None = None,
    threads: int | None = None,
) -> Iterator[Record | WeightsStarted]:
    """The records of an inspection as they are made, file by file, and before each what begins.

    output: the folder whose records.jsonl they are appended to, each on disk before the next begins; what stands
    there already is read instead of measured again. Raises InvalidInput for weights, data and networks that do not
    fit together or are not finite; a measure that raises costs its own record alone.
    """
    examples = _examples(inspection, data_dir, threads)
    if output is None:
        yield from _all(inspection, examples, {}, None)
        return
    with JsonlFile(Path(output) / RECORDS) as file:
        known = {record.key: record for record in iterate_records(file.path) if record.status in ("ok", "skipped")}
        yield from _all(inspection, examples, known, file)


def evaluation_examples(inspection: NetworkEvaluation, *, data_dir: Path | str | None, threads: int | None) -> Subject:
    """The subject at the first weights that the inspection names."""
    examples = _examples(inspection, data_dir, threads)
    return subject_of(inspection, next(network_weights(inspection, examples)), examples)


def _examples(inspection: NetworkEvaluation, data_dir: Path | str | None, threads: int | None) -> Examples:
    if threads is not None and not 1 <= threads <= 1024:
        raise InvalidInput(f"threads={threads} must be from 1 to 1024, or none for as many as there are cores")
    apply_settings(inspection.device, threads or int(describe_environment("cpu")["cores"] or 1))
    transform = inspection.model.transform()
    examples = inspection.dataset.examples(data_folder(data_dir), inspection.subset, transform)
    _check_classes(inspection, examples)
    return examples


def subject_of(inspection: NetworkEvaluation, state: NetworkWeights, examples: Examples) -> Subject:
    """The subject that is measured. Raises InvalidInput for what does not fit together or is not finite."""
    try:
        subject = Subject.from_module(
            state.module,
            examples.inputs.to(getattr(torch, inspection.dtype)),
            examples.targets,
            batch_size=inspection.batch_size,
            name=inspection.title,
        )
    except InvalidInput as error:
        raise InvalidInput(f"'{inspection.title}' at weights '{state.source}': {error}") from None
    except (Exception, SystemExit) as error:  # whatever the network's own code raises on these inputs
        raise InvalidInput(
            f"'{inspection.title}' does not run on inputs of shape {list(examples.inputs.shape[1:])}: "
            f"{type(error).__name__}: {short(' '.join(str(error).split()))}"
        ) from error
    return subject.to(device=inspection.device)


def network_weights(inspection: NetworkEvaluation, examples: Examples) -> Iterator[NetworkWeights]:
    """The network at the weights of each file, one after the other in one and the same module."""
    if inspection.weights == "pretrained":
        if not isinstance(inspection.model, Timm):
            raise InvalidInput(f"'{inspection.title}' has no pretrained weights; use 'timm:NAME', or name a file")
        yield _state(inspection, "pretrained", inspection.model.pretrained())
        return
    shape, classes = tuple(examples.inputs.shape[1:]), inspection.classes or examples.classes
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(inspection.seed)
        module = inspection.model.build(shape, classes)
    state = _state(inspection, "random", module)
    if inspection.weights == "random":
        yield state
        return
    holds = module.network if isinstance(module, Enlarged) else module  # the weights are those of timm's network
    for path in find_weight_files(inspection.weights):
        load_weights(holds, read_weights(path), where=str(path))
        yield NetworkWeights(str(path), hash_file(path), module)


def _state(inspection: NetworkEvaluation, source: str, module: nn.Module) -> NetworkWeights:
    """`module`, moved to the type in which it is measured, with the hash of its state."""
    try:
        module.to(getattr(torch, inspection.dtype))
        held = [value.detach().cpu() for value in module.state_dict().values()]
        return NetworkWeights(source, content_sha256(held), module)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"the state of '{inspection.title}' is no set of plain tensors "
            f"({type(error).__name__}: {short(' '.join(str(error).split()))}); build it without lazy, meta, sparse or "
            "quantised parts"
        ) from error


def _check_classes(inspection: NetworkEvaluation, examples: Examples) -> None:
    """timm's pretrained outputs mean timm's classes: those of other data would be compared with something else."""
    if inspection.weights != "pretrained" or not isinstance(inspection.model, Timm):
        return
    outputs = inspection.model.classes
    if outputs != examples.classes:
        raise InvalidInput(
            f"the weights of '{inspection.title}' have {outputs} classes, '{format_spec(inspection.dataset)}' has "
            f"{examples.classes}; give data of theirs, or weights finetuned on yours by --weights"
        )


def _all(
    inspection: NetworkEvaluation, examples: Examples, known: dict[str, Record], file: JsonlFile | None
) -> Iterator[Record | WeightsStarted]:
    data = _data(inspection, examples)
    for state in network_weights(inspection, examples):
        subject = subject_of(inspection, state, examples)
        state = replace(state, frozen=len(subject.frozen))
        doubled, truth = subject.to(dtype=torch.float64), _truth(subject)
        for measure in inspection.measures:
            blank = blank_record(inspection, measure, state, data, truth)
            if blank.key in known:  # measured before, perhaps under another name of the same file or draw
                yield replace(known[blank.key], recipe=blank.recipe, data=blank.data, truth=blank.truth)
                continue
            yield WeightsStarted(state.source, format_spec(measure))
            record = evaluate_measure(measure, subject, doubled, blank=blank, asked=inspection.asked)
            if file is not None:
                file.append(record)
            yield record


def _data(inspection: NetworkEvaluation, examples: Examples) -> dict[str, Scalar]:
    """What is recorded of the examples. Inspections are of one network, so that no leaderboard takes them."""
    subset = inspection.subset
    return {
        "dataset": format_spec(inspection.dataset),
        "sha256": examples.sha256(),
        "split": subset.split,
        "examples": len(examples.inputs),
        "available": examples.available,
        "limit": subset.limit,
        "subset_seed": None if subset.limit is None else subset.seed,
        "leaderboard": False,
    }


def _truth(subject: Subject) -> dict[str, Scalar]:
    """Mean loss and accuracy on the examples."""

    def of(inputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = subject.apply(subject.params, inputs)
        right = (logits.argmax(1) == targets).to(logits.dtype).mean()
        return subject.criterion(logits, targets).mean(), right

    with torch.no_grad():
        loss, accuracy = subject.mean(of)
    return {"loss": _finite(float(loss)), "accuracy": _finite(float(accuracy))}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def blank_record(
    inspection: NetworkEvaluation,
    measure: Measure,
    state: NetworkWeights,
    data: dict[str, Scalar],
    truth: dict[str, Scalar],
) -> Record:
    """The record before the measure is called; its key holds all that the value depends on."""
    recipe: dict[str, Scalar] = {
        "model": inspection.title,
        "weights": state.source,
        "weights_sha256": state.sha256,
        "frozen": state.frozen,
        **_code(inspection, measure),
    }
    asked = inspection.asked
    identity = {
        "measure": measure.name,
        "version": measure.version,
        "configuration": to_config(measure),
        "recipe": {**recipe, "weights": None},  # a file may be moved
        "data": data["sha256"],
        "seed": inspection.seed,
        "dtype": inspection.dtype,
        "device": inspection.device,
        "asked": [asked.timed, asked.checked, asked.rewritten],
    }
    return Record(
        key=content_hash(identity),
        measure=measure.name,
        label=format_spec(measure),
        configuration=to_config(measure),
        recipe=recipe,
        truth=truth,
        data=data,
        seed=inspection.seed,
        dtype=inspection.dtype,
        device=inspection.device,
        status="failed",
        reason="not run",
        environment=describe_environment(inspection.device),
        time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _code(inspection: NetworkEvaluation, measure: Measure) -> dict[str, Scalar]:
    """Whose code network, data and measure are, where that is not ours: it may compute something else tomorrow."""
    versions: dict[str, Scalar] = {}
    if isinstance(inspection.model, Timm):
        versions["timm"] = importlib.metadata.version("timm")
    if isinstance(inspection.model, File):
        versions["model_code_sha256"] = inspection.model.sha256
    for kind, chosen in (("model", inspection.model), ("dataset", inspection.dataset), ("measure", measure)):
        module = sys.modules[type(chosen).__module__]
        path = getattr(module, "__file__", None)
        if path and module.__name__.partition(".")[0] not in ("sharpbench", "sharpbench_measures"):
            versions[f"{kind}_code_sha256"] = hash_file(Path(path))
    return versions


def last_records(records: Sequence[Record]) -> dict[str, dict[str, Record]]:
    """Source of the weights -> label of the measure -> record, in the order in which they were made."""
    table: dict[str, dict[str, Record]] = {}
    for record in records:
        table.setdefault(str(record.recipe["weights"]), {})[record.label] = record
    return table
