"""The user's own loader, made by a function in a Python file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from torch import Tensor

from sharpbench.core.batch import map_tensors, take_examples
from sharpbench.core.loader import read_loader
from sharpbench.core.source_files import modules_beside
from sharpbench.core.user_functions import load_function, split_file_and_function
from sharpbench.datasets.dataset import Data, Dataset, Examples, Subset, Transform
from sharpbench.errors import InvalidInput, describe_error, shorten
from sharpbench.files import user_path


@dataclass(frozen=True)
class LoaderFile(Dataset):
    """'data.py:make': the examples of the loader that `make()` in the file data.py returns. The file is executed.

    The class is not in DATASETS: networks are measured on its examples, not trained.
    """

    name: ClassVar[str] = "file"
    title: ClassVar[str] = "a loader of your own, FILE.py:FUNCTION; the file is executed"
    source: ClassVar[str] = "the user"
    argument: ClassVar[str | None] = "function"
    prepared: ClassVar[bool] = True
    function: str

    def load(self, folder: Path | None) -> Data:
        """See Dataset.load. Raises InvalidInput: a loader has no test examples."""
        raise InvalidInput(f"'{self.function}' gives examples to measure on; networks are trained on npz: or a plugin")

    def examples(self, folder: Path | None, subset: Subset, transform: Transform | None = None) -> Examples:
        """See Dataset.examples. The function is called without arguments; its loader is read once."""
        if subset.split != "train":
            raise InvalidInput(f"'{self.function}' gives one set of examples; leave out --split")
        if transform is not None:
            raise InvalidInput(f"'{self.function}' gives inputs as the network takes them; leave out --transform")
        path, _, factory = self.function.rpartition(":")
        function = load_function(path, factory)
        try:
            with modules_beside(user_path(path)):
                loader = function()
                if not isinstance(loader, Iterable):
                    raise InvalidInput(f"'{self.function}()' returns {shorten(repr(loader))}, not a loader of batches")
                inputs, targets = read_loader(loader)
                inputs, targets = map_tensors(_to_cpu, inputs), _to_cpu(targets)
        except InvalidInput:
            raise
        except (Exception, SystemExit) as error:  # the user's code may raise anything
            raise InvalidInput(f"'{self.function}()' raises {describe_error(error)}") from error
        chosen = subset.indices(len(targets))
        classes = 1 if targets.is_floating_point() else int(targets.max()) + 1
        return Examples(take_examples(inputs, chosen), targets[chosen], max(1, classes), len(targets))


def _to_cpu(tensor: Tensor) -> Tensor:
    """The plain tensor on the CPU, where all data sets lie."""
    return tensor.detach().cpu().resolve_conj().resolve_neg()


def parse_loader_file(word: str) -> LoaderFile | None:
    """The LoaderFile that 'path/to/data.py:make' names, or None for a word of another form.

    Raises InvalidInput for a file without a function.
    """
    return LoaderFile(word) if split_file_and_function(word) else None
