"""One network that is measured: its model, data and settings, and its weights: from the seed, published or of files."""

from __future__ import annotations

import importlib.metadata
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from sharpbench.core.fields import Scalar
from sharpbench.core.functional import Forward
from sharpbench.core.groups import GROUPINGS
from sharpbench.core.loss import NAMED
from sharpbench.core.measure import Measure
from sharpbench.core.spec import format_spec
from sharpbench.datasets.dataset import Dataset, Examples, Subset, content_sha256
from sharpbench.errors import InvalidInput, shorten
from sharpbench.models.file import File
from sharpbench.models.model import Model
from sharpbench.models.pretrained import PretrainedModel, Wrapped
from sharpbench.runner.cell import Checks, EvaluationSetting
from sharpbench.runner.preparation import Preparation
from sharpbench.training.weight_files import find_weight_files, hash_file, hash_state, read_weights, split_state
from sharpbench.training.weights import describe_left_out, load_weights

MAX_COUNT = 10**6
"""Largest number of classes, or of examples in a batch: a larger one is likelier mistyped than meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkEvaluation:
    """Measures on one network, at weights, on examples.

    Attributes:
        weights: 'random' (by the seed), 'pretrained' (as timm or the Hugging Face hub publish them; downloaded where
            their cache does not hold them), or the name or pattern of files, to which '#KEY' adds the key of the state;
            or several of these.
        subset: which examples of the data set.
        classes: outputs of the network, None: the classes of the data; of no effect where the network fixes them.
        batch_size: None chooses it from memory; it changes no value.
        preparation: how the examples become inputs.
        expected_accuracy: the accuracy on the examples that the weights must have, from 0 to 1; of several weights, all
            but random ones.
        loss: by name.
        parameters: names and patterns of the parameters to measure, separated by commas; None: all that are trained.
        group_by: 'layer' or 'kind', by which parts are summed; None: by parameter.

    Raises InvalidInput for numbers out of range.
    """

    model: Model
    measures: tuple[Measure, ...]
    dataset: Dataset
    weights: str | tuple[str, ...] = "random"
    subset: Subset = field(default_factory=Subset)
    classes: int | None = None
    batch_size: int | None = None
    setting: EvaluationSetting = field(default_factory=EvaluationSetting)
    checks: Checks = field(default_factory=Checks)
    preparation: Preparation = field(default_factory=Preparation)
    expected_accuracy: float | None = None
    loss: str = "cross_entropy"
    parameters: str | None = None
    group_by: str | None = None

    def __post_init__(self) -> None:
        if self.expected_accuracy is not None and not 0 <= self.expected_accuracy <= 1:
            raise InvalidInput(f"expected accuracy {self.expected_accuracy} must be from 0 to 1; write 0.98 for 98 %")
        if self.loss not in NAMED:
            raise InvalidInput(
                f"--loss '{shorten(self.loss)}' is unknown; use {', '.join(NAMED)}, or in Python any loss of torch.nn: "
                "Subject.from_module(..., loss=)"
            )
        if self.group_by is not None and self.group_by not in GROUPINGS:
            raise InvalidInput(f"--group-by '{shorten(self.group_by)}' is unknown; use {' or '.join(GROUPINGS)}")
        if self.classes is not None and isinstance(self.model, File):
            raise InvalidInput(
                f"classes={self.classes} has no effect on '{self.title}', which fixes its outputs itself"
            )
        for name, value in (("classes", self.classes), ("batch_size", self.batch_size)):
            if value is not None and not 1 <= value <= MAX_COUNT:
                raise InvalidInput(f"{name}={value} must be from 1 to {MAX_COUNT}")

    def key_fields(self) -> dict[str, Scalar]:
        """What a record's key holds of loss, parameters and groups: nothing for the defaults."""
        given = {"parameters": self.parameters, "group_by": self.group_by}
        other = {} if self.loss == "cross_entropy" else {"loss": self.loss}
        return {**other, **{name: value for name, value in given.items() if value is not None}}

    def model_code(self) -> dict[str, Scalar]:
        """Versions and hashes of the code of the network that is not ours; of a file, after the network was built."""
        found: dict[str, Scalar] = {}
        if isinstance(self.model, PretrainedModel):
            library = self.model.libraries[0]
            found[library] = importlib.metadata.version(library)
        if isinstance(self.model, File):
            found["model_code_sha256"] = self.model.sha256
            if imports := self.model.imports_sha256:
                found["model_imports_sha256"] = imports
        elif code := foreign_source(self.model):
            found["model_code_sha256"] = code
        return found

    @property
    def sources(self) -> tuple[str, ...]:
        """What `weights` names, each once."""
        return tuple(dict.fromkeys((self.weights,) if isinstance(self.weights, str) else self.weights))

    @property
    def title(self) -> str:
        """The network as a user types it."""
        return f"{self.model.path}:{self.model.factory}" if isinstance(self.model, File) else format_spec(self.model)


def foreign_source(chosen: object) -> str | None:
    """The hash of the source file of an object's class; None where that is one of ours."""
    module = sys.modules[type(chosen).__module__]
    path = getattr(module, "__file__", None)
    ours = module.__name__.partition(".")[0] in ("sharpbench", "sharpbench_measures")
    return hash_file(Path(path)) if path and not ours else None


@dataclass(frozen=True, slots=True)
class NetworkWeights:
    """A module with its weights.

    Attributes:
        source: where the weights come from: a file, 'random' or 'pretrained'.
        sha256: the hash of the tensors, so that a file may be moved or saved in another format.
        frozen: how many tensors are not measured, because they do not require gradients.
        state: the key of the state in the file, where the user named it.
        accuracy: the accuracy that the file states.
        notes: what was chosen from the file.
        forward: how the module is called, where its file says so.
    """

    source: str
    sha256: str
    module: nn.Module
    frozen: int = 0
    state: str | None = None
    accuracy: float | None = None
    notes: tuple[str, ...] = ()
    forward: Forward | None = None


@dataclass(frozen=True, slots=True)
class BuiltNetwork:
    """A network at random weights, into which the weights of files are loaded.

    Attributes:
        sha256: the hash of the random weights.
        forward: how the module is called, where its file says so.
    """

    module: nn.Module
    sha256: str
    forward: Forward | None = None

    def read_weights(self, path: Path, state: str | None = None) -> NetworkWeights:
        """The network at the weights of a file, of which `state` is the key of the state; the module is written to.

        Raises InvalidInput for a file that is damaged or does not fit; the message names file and tensors.
        """
        # the names of weights are those of the library's own network
        loaded = self.module.network if isinstance(self.module, Wrapped) else self.module
        where = str(path) if state is None else f"{path}#{state}"
        stored = read_weights(path, state)
        left_out = load_weights(loaded, stored.tensors, where=where)
        notes = [stored.describe_choice(str(path)), describe_left_out(left_out, where=where)]
        return NetworkWeights(
            where,
            hash_state(stored.tensors),
            self.module,
            state=state,
            accuracy=stored.accuracy,
            notes=tuple(filter(None, notes)),
            forward=self.forward,
        )


def build_network(evaluation: NetworkEvaluation, examples: Examples) -> BuiltNetwork:
    """The network for these examples, at random weights by the seed and in the precision of the evaluation.

    Raises InvalidInput as Model.build, and for a state that is not plain tensors.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(evaluation.setting.seed)
        module, forward = _build_module(evaluation, examples)
    return BuiltNetwork(module, _hash_weights(evaluation, module), forward)


def _build_module(evaluation: NetworkEvaluation, examples: Examples) -> tuple[nn.Module, Forward | None]:
    if isinstance(evaluation.model, File):
        return evaluation.model.build_called()
    if not isinstance(examples.inputs, Tensor):
        raise InvalidInput(
            f"model '{evaluation.title}' takes one tensor and the data give several; write yours, net.py:make"
        )
    shape = tuple(examples.inputs.shape[1:])
    return evaluation.model.build(shape, evaluation.classes or examples.classes), None


def iterate_weights(evaluation: NetworkEvaluation, examples: Examples) -> Iterator[NetworkWeights]:
    """The network at the weights of each file, one after the other in the same module."""
    built: BuiltNetwork | None = None
    for source in evaluation.sources:
        if source == "pretrained":
            yield read_pretrained(evaluation)
        elif source == "random":
            random = build_network(evaluation, examples)
            yield NetworkWeights(source, random.sha256, random.module, forward=random.forward)
        else:
            built = built or build_network(evaluation, examples)
            pattern, state = split_state(source)
            for path in find_weight_files(pattern):
                yield built.read_weights(path, state)


def read_pretrained(evaluation: NetworkEvaluation) -> NetworkWeights:
    """The network at its published weights. Raises InvalidInput for other networks, and where they cannot be loaded."""
    if not isinstance(evaluation.model, PretrainedModel):
        raise InvalidInput(
            f"'{evaluation.title}' has no pretrained weights; use 'timm:NAME' or 'hf:OWNER/NAME', or name a file"
        )
    module = evaluation.model.pretrained()
    return NetworkWeights("pretrained", _hash_weights(evaluation, module), module)


def _hash_weights(evaluation: NetworkEvaluation, module: nn.Module) -> str:
    """The hash of the state of `module`, which is converted to the precision of the evaluation."""
    try:
        module.to(getattr(torch, evaluation.setting.dtype))
        tensors = [value.detach().cpu() for value in module.state_dict().values()]
        return content_sha256(tensors)
    except (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput(
            f"the state of '{evaluation.title}' is not a set of plain tensors "
            f"({type(error).__name__}: {shorten(' '.join(str(error).split()))}); build it without lazy, meta, sparse "
            "or quantised parts"
        ) from error
