"""The options that say which data a network is measured on and how: shared by the commands about one network."""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from sharpbench.cli.options import (
    ClassesOption,
    DataDirOption,
    DeviceOption,
    DtypeOption,
    ExpectAccuracyOption,
    LimitOption,
    LossOption,
    MeanOption,
    OwnDatasetOption,
    ParametersOption,
    PluginOption,
    StdOption,
    ThreadsOption,
    TransformOption,
    parse_preparation,
)
from sharpbench.errors import one_line

if TYPE_CHECKING:
    from sharpbench.core.subject import Subject
    from sharpbench.runner.network_evaluation import NetworkEvaluation

PARAMETER = "network"
"""The parameter of a command in place of which the options are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOptions:
    """Data, preparation, loss, parameters and device, as options of the command line with their defaults."""

    dataset: OwnDatasetOption = "digits"
    split: Annotated[str, typer.Option(help="train or test.")] = "train"
    limit: LimitOption = None
    subset_seed: Annotated[int, typer.Option(help="Seed of the examples that --limit draws.")] = 0
    classes: ClassesOption = None
    loss: LossOption = "cross_entropy"
    parameters: ParametersOption = None
    mean: MeanOption = None
    std: StdOption = None
    transform: TransformOption = None
    expect_accuracy: ExpectAccuracyOption = None
    device: DeviceOption = "auto"
    dtype: DtypeOption = "float32"
    threads: ThreadsOption = None
    data_dir: DataDirOption = None
    plugin: PluginOption = None

    @property
    def plugins(self) -> list[Path]:
        """The files of --plugin."""
        return self.plugin or []

    def evaluation(self, model: str, weights: str | tuple[str, ...], *, seed: int, **more: Any) -> NetworkEvaluation:
        """The network, its data and its setting; more: further fields of NetworkEvaluation.

        Raises InvalidInput for words and numbers that name nothing.
        """
        from sharpbench.datasets.dataset import Subset
        from sharpbench.environment import resolve_device
        from sharpbench.runner.cell import EvaluationSetting
        from sharpbench.runner.named_parts import parse_dataset, parse_model
        from sharpbench.runner.network_evaluation import NetworkEvaluation

        return NetworkEvaluation(
            model=parse_model(model, self.plugins),
            measures=more.pop("measures", ()),
            dataset=parse_dataset(self.dataset, self.plugins),
            weights=weights,
            subset=Subset(split=self.split, limit=self.limit, seed=self.subset_seed),  # type: ignore[arg-type]  # it checks
            classes=self.classes,
            setting=EvaluationSetting(
                seed=seed,
                dtype=self.dtype,  # type: ignore[arg-type]  # it checks
                device=resolve_device(self.device),
            ),
            preparation=parse_preparation(self.mean, self.std, self.transform),
            expected_accuracy=self.expect_accuracy,
            loss=self.loss,
            parameters=self.parameters,
            **more,
        )

    def load_subjects(self, evaluation: NetworkEvaluation) -> dict[str, Subject]:
        """The subjects at all weights that the evaluation names, by their sources; progress and notes go to stderr."""
        from sharpbench.cli.bars import announce_step
        from sharpbench.runner.single_network import iterate_subjects

        with announce_step("reading data and weights"), contextlib.redirect_stdout(sys.stderr):  # networks may print
            found = list(iterate_subjects(evaluation, data_dir=self.data_dir, threads=self.threads))
        for note in dict.fromkeys(note for _, _, notes in found for note in notes):
            typer.echo(one_line(note), err=True)
        return {source: subject for source, subject, _ in found}


def with_network_options(command: Callable[..., int]) -> Callable[..., int]:
    """The command with the options of NetworkOptions in place of its parameter `network`, which gets their values."""
    hints = get_type_hints(NetworkOptions, include_extras=True)
    names = [each.name for each in fields(NetworkOptions)]
    signature = inspect.signature(command, eval_str=True)
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name == PARAMETER:
            parameters += [
                parameter.replace(name=each.name, default=each.default, annotation=hints[each.name])
                for each in fields(NetworkOptions)
            ]
        else:
            parameters.append(parameter)

    @functools.wraps(command)
    def called(**given: Any) -> int:
        network = NetworkOptions(**{name: given.pop(name) for name in names})
        return command(**{PARAMETER: network}, **given)

    keyword_only = [each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in parameters]
    called.__signature__ = signature.replace(parameters=keyword_only)  # type: ignore[attr-defined]  # inspect reads it
    return called
