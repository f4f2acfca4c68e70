"""Option types that several commands share, with their help."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.errors import InvalidInput, shorten

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sharpbench.datasets.dataset import Dataset
    from sharpbench.runner.preparation import Preparation

DEFAULT_MEASURES, DEFAULT_MODELS = "trace,fisher-rao,normalized,minimum", "lenet,mlp"
MEASURES_HELP = "Comma-separated, or 'all'; parameters in brackets: 'normalized\\[diagonal=icml,samples=20]'."
THREADS_HELP = "Threads of torch in each process that measures, fixed and recorded."
CACHE_DEFAULT = "$SHARPBENCH_CACHE, else the user's cache"


def complete_measures(incomplete: str) -> list[str]:
    """What the shell offers for comma-separated measures that are typed in part."""
    from sharpbench.core.catalog import list_measures

    before, comma, _ = incomplete.rpartition(",")
    return [before + comma + name for name in list_measures()]


# A population of networks

MeasuresOption = Annotated[str, typer.Option(help=MEASURES_HELP, autocompletion=complete_measures)]
ModelsOption = Annotated[str, typer.Option(help="Comma-separated; 'mlp\\[bias=false]' is mlp without biases.")]
DatasetOption = Annotated[
    str, typer.Option(help="One of `list datasets`; digits is embedded, mnist is read from --data-dir.")
]
CohortOption = Annotated[
    str, typer.Option(help="Which networks are trained: 'label-noise\\[ratios=11,seeds=10]', or a TOML file.")
]
PopulationOption = Annotated[
    str | None,
    typer.Option(
        help="Networks that were trained elsewhere, instead of --models, --dataset and --cohort: a TOML file that says "
        "where they are, the folder that holds it, or a folder of `zoo export`.",
        show_default="none",
    ),
]

# One network

MODEL_HELP = "One of `list models`; 'timm:resnet18'; or your own, 'net.py:make', which executes that file; "
MODEL_HELP += "the function returns the model or (model, forward)."
OwnModelOption = Annotated[str, typer.Option(help=MODEL_HELP)]
DATA_HELP = (
    "One of `list datasets`; or your own, 'npz:FILE', 'imagefolder:FOLDER', or the loader that a function returns, "
    "'data.py:make', which executes that file."
)
OwnDatasetOption = Annotated[str, typer.Option("--dataset", "--data", help=DATA_HELP)]
ParametersOption = Annotated[
    str | None,
    typer.Option(help="Parameters to measure: names and patterns, 'head.*,*lora*'.", show_default="all trained"),
]
GroupByOption = Annotated[
    str | None,
    typer.Option("--group-by", help="Sum what parameters contribute by 'layer' or 'kind'.", show_default="parameter"),
]
LossOption = Annotated[str, typer.Option(help="'cross_entropy', 'mse' or 'bce'.")]
WEIGHTS_HELP = (
    "A safetensors or torch file, a pattern of them for a curve, 'random', or 'pretrained'. "
    "'net.pth#state_dict_ema' chooses a state in it."
)
WeightsOption = Annotated[str, typer.Option(help=WEIGHTS_HELP)]
SeveralWeightsOption = Annotated[
    list[str] | None, typer.Option("--weights", help=f"{WEIGHTS_HELP} May be repeated.", show_default="random")
]
MeanOption = Annotated[
    str | None,
    typer.Option(
        help="With --std: pixels x of 0..1 become (x - mean) / std, as in training; one number, or one per channel: "
        "0.485,0.456,0.406.",
        show_default="of timm for its networks, else 0.5",
    ),
]
StdOption = Annotated[str | None, typer.Option(help="See --mean.", show_default="of timm for its networks, else 0.5")]
TransformOption = Annotated[
    str | None,
    typer.Option(
        help="'data.py:name', your transform from a PIL image to the input; executes that file.", show_default="none"
    ),
]
ExpectAccuracyOption = Annotated[
    float | None,
    typer.Option(
        help="Accuracy that the network must have on the examples, such as 0.98; otherwise nothing is measured.",
        show_default="not checked",
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(help="Number of examples, drawn at random from the data.", show_default="all")
]
ClassesOption = Annotated[
    int | None, typer.Option(help="Outputs of the network.", show_default="the classes of the data")
]

# Where and how it is computed

DeviceOption = Annotated[str, typer.Option(help="cpu, cuda, or auto: cuda where there is one.")]
DtypeOption = Annotated[str, typer.Option(help="float32 or float64, in which measures are evaluated.")]
ThreadsOption = Annotated[int | None, typer.Option(help=THREADS_HELP, show_default="all cores")]
WorkersOption = Annotated[
    int, typer.Option(help="Processes that train and measure; with 1, this process trains and another measures.")
]
ProbeSeedOption = Annotated[int, typer.Option(help="Seed of the random probes of measures.")]

# Files

DataDirOption = Annotated[Path | None, typer.Option(help="Folder of the data sets.", show_default="$SHARPBENCH_DATA")]
CacheDirOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the cache: trained networks, and the catalog of what is installed.", show_default=CACHE_DEFAULT
    ),
]
PluginOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="A Python file with MEASURES, MODELS, DATASETS, OPTIMIZERS or COHORTS; it is executed. May be repeated."
    ),
]

# What is printed

FullOption = Annotated[
    bool, typer.Option("--full", help="Print every table, legend and environment; of a dry run every network.")
]
JsonObjectOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
JsonArrayOption = Annotated[bool, typer.Option("--json", help="Print one JSON array of objects instead of tables.")]


def given_options(context: typer.Context) -> dict[str, str]:
    """The parameters that the user gave -> their options, without those that have their default."""
    given = {}
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name and source is not None and source.name != "DEFAULT":
            given[parameter.name] = parameter.opts[0]
    return given


def echo_notes(datasets: Iterable[Dataset], data_dir: Path | None) -> None:
    """Print on stderr what a user should know about the data sets, each once (see Dataset.notes)."""
    from sharpbench.datasets.dataset import refusing_load_errors
    from sharpbench.files import data_folder

    for dataset in dict.fromkeys(datasets):
        with refusing_load_errors(dataset):
            notes = dataset.notes(data_folder(data_dir))
        for line in notes:
            typer.echo(line, err=True)


def parse_preparation(mean: str | None, std: str | None, transform: str | None) -> Preparation:
    """How inputs are prepared, by the options --mean, --std and --transform. Raises InvalidInput for other words."""
    from sharpbench.runner.preparation import Preparation

    return Preparation(mean=_parse_numbers("mean", mean), std=_parse_numbers("std", std), transform=transform)


def _parse_numbers(name: str, text: str | None) -> tuple[float, ...]:
    if text is None:
        return ()
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError:
        raise InvalidInput(
            f"{name}={shorten(text)} is not numbers; write one, or one per channel: 0.5,0.4,0.3"
        ) from None
