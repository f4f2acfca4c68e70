"""A network that was trained elsewhere, as the cells of a run refer to it, and how it is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from sharpbench.core.fields import Scalar
from sharpbench.core.subject import Subject
from sharpbench.datasets.dataset import Dataset, Examples
from sharpbench.errors import InvalidInput
from sharpbench.files import content_hash
from sharpbench.runner.network_evaluation import (
    BuiltNetwork,
    NetworkEvaluation,
    NetworkWeights,
    build_network,
    read_pretrained,
)
from sharpbench.runner.network_subject import check_classes, load_examples, make_subject
from sharpbench.runner.network_table import PRETRAINED
from sharpbench.training.weight_files import split_state

if TYPE_CHECKING:
    from sharpbench.runner.cell import Cell


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignNetwork:
    """A network that was trained elsewhere.

    Attributes:
        evaluation: the network, the file of its weights, the examples and the loss; without measures.
        title: its file, for lines of progress.
        content: what its values depend on besides the examples: hashes of weights and code, loss, parameters.
        recipe: hyperparameters and seed, as its table states them.
        truth: outcomes, as its table claims them.
        data: what records state about examples, weights and claims.
        notes: what was chosen from the file, one line each.
    """

    evaluation: NetworkEvaluation
    title: str
    content: Mapping[str, Scalar] = field(compare=False, repr=False)
    recipe: Mapping[str, Scalar] = field(compare=False, repr=False)
    truth: Mapping[str, Scalar] = field(compare=False, repr=False)
    data: Mapping[str, Scalar] = field(compare=False, repr=False)
    notes: tuple[str, ...] = field(default=(), compare=False, repr=False)

    @property
    def dataset(self) -> Dataset:
        """The data set of the examples."""
        return self.evaluation.dataset

    def row(self) -> Mapping[str, Scalar]:
        """The hyperparameters and the seed, as records state them."""
        return self.recipe

    def key(self, data_sha256: str, device: str) -> str:
        """The hash of weights, code, examples and kind of device."""
        return content_hash({"network": dict(self.content), "data": data_sha256, "device": device})


class ForeignNetworks:
    """Opens networks that were trained elsewhere; examples and module are kept for the next one that shares them."""

    def __init__(self, data_dir: Path | None) -> None:
        """Args: data_dir: the folder of data sets."""
        self._data_dir = data_dir
        self._examples: tuple[object, Examples, str] | None = None
        self._built: tuple[object, BuiltNetwork] | None = None

    def load_examples(self, evaluation: NetworkEvaluation) -> tuple[Examples, str]:
        """The examples that the network is measured on, and the hash of their content.

        Raises InvalidInput as `network_subject.load_examples`.
        """
        own = None if evaluation.dataset.prepared else evaluation.model.describe_transform()
        key = evaluation.dataset, evaluation.subset, evaluation.preparation, own
        if self._examples is None or self._examples[0] != key:
            self._examples = None  # its memory is free before the next take some
            examples = load_examples(evaluation, self._data_dir)
            self._examples = key, examples, examples.sha256()
        check_classes(evaluation, self._examples[1])
        return self._examples[1:]

    def load_weights(self, evaluation: NetworkEvaluation) -> NetworkWeights:
        """The network at its weights. The module is written to by the next call.

        Raises InvalidInput for a file that is damaged or does not fit the network, and where weights of timm cannot be
        loaded.
        """
        source = evaluation.sources[0]
        if source == PRETRAINED:
            return read_pretrained(evaluation)
        examples, _ = self.load_examples(evaluation)
        key = evaluation.model, evaluation.classes or examples.classes
        if self._built is None or self._built[0] != key:
            self._built = key, build_network(evaluation, examples)
        path, state = split_state(source)
        return self._built[1].read_weights(Path(path), state)

    def open(self, cell: Cell) -> Subject:
        """The network of a cell on its examples.

        Raises InvalidInput as `make_subject`, and where weights or examples are not those of the plan any more.
        """
        network = cell.recipe
        if not isinstance(network, ForeignNetwork):
            raise TypeError(f"the network of {cell.key} is trained here")
        examples, found = self.load_examples(network.evaluation)
        weights = self.load_weights(network.evaluation)
        known = {"the examples": cell.data_sha256, "weights": network.content["weights_sha256"]}
        now: dict[str, Scalar] = {"the examples": found, "weights": weights.sha256, **network.evaluation.model_code()}
        for what, value in now.items():
            if value != known.get(what, network.content.get(what)):
                raise InvalidInput(
                    f"'{network.title}': {what} changed after the run was planned; give the same command again"
                )
        return make_subject(network.evaluation, weights, examples)

    def forget(self) -> None:
        """Build the network anew for the next cell, as a measure wrote to it."""
        self._built = None
