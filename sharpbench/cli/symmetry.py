"""`sharpbench symmetry`: the rescalings that keep the function of a network."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.options import MODEL_HELP, JsonObjectOption, PluginOption
from sharpbench.errors import InvalidInput, shorten

if TYPE_CHECKING:
    from sharpbench.core.batch import Inputs
    from sharpbench.symmetry import GroupDescription

MAX_EXAMPLE_SIZE = 2**22
"""Numbers in one example."""


def symmetry(
    model: Annotated[str, typer.Argument(help=f"{MODEL_HELP} Parameters in brackets: 'mlp\\[bias=false]'.")],
    shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of one example: channels x height x width.", show_default="the network's own, or 1x28x28"
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Two examples of the loader that a function returns, 'data.py:make', which executes that file.",
            show_default="random",
        ),
    ] = None,
    classes: Annotated[int, typer.Option(help="Outputs of the network.")] = 10,
    seed: Annotated[int, typer.Option(help="Seed of the weights and of the random rescalings.")] = 0,
    as_json: JsonObjectOption = False,
    plugin: PluginOption = None,
) -> None:
    """Show the linear changes of a network's weights that keep its function: how many, which, and whether they do.

    Scales are counted per parameter tensor (layer), and per channel or hidden unit (unit). The full group adds the
    invertible matrices between queries and keys, values and output of attention, and two linear layers. The last figure
    is the largest change of the outputs under random elements in float64. Inputs are random numbers: no data are read.
    """
    import torch

    from sharpbench.models.file import File
    from sharpbench.runner.named_parts import parse_model
    from sharpbench.symmetry import SCOPES, describe, describe_full

    chosen = parse_model(model, plugin or ())
    sizes = _shape(shape) if shape else chosen.input_shape or (1, 28, 28)
    if classes < 1:
        raise InvalidInput(f"--classes {classes} must be at least 1")
    if not 0 <= seed < 2**64:
        raise InvalidInput(f"--seed {seed} must be from 0 to {2**64 - 1}")
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    forward = None
    try:
        if isinstance(chosen, File):
            module, forward = chosen.build_called()
        else:
            module = chosen.build(sizes, classes)
    except (MemoryError, RuntimeError) as error:
        options = f"--shape {'x'.join(map(str, sizes))} and --classes {classes}"
        raise InvalidInput(f"model '{shorten(model)}' cannot be built for {options}: {error}") from error
    inputs = torch.randn(2, *sizes, generator=generator) if data is None else _read_examples(data)
    from sharpbench.cli.bars import announce_step

    with announce_step(f"finding the rescalings of {model}"):
        found = [describe(module, inputs, scope=scope, generator=generator, forward=forward) for scope in SCOPES]
        found.append(describe_full(module, inputs, generator=generator, forward=forward))
    if as_json:
        scopes = {
            each.scope: {"dimension": each.dimension, "generators": each.generators, "change": each.change}
            for each in found
        }
        typer.echo(json.dumps({"model": model, "pinned": found[0].pinned, **scopes}, indent=1))
        return
    for each in found:
        typer.echo(f"{each.scope}: {_dimension(each)}; outputs change by {each.change:.1e} of their size")
        for generators in each.generators:
            typer.echo(f"  {generators}")
    typer.echo(f"unknown operators, whose inputs and weights are not rescaled: {', '.join(found[0].pinned) or 'none'}")


def _read_examples(word: str) -> Inputs:
    """The first two examples of a loader of the user's."""
    from sharpbench.core.batch import take_examples
    from sharpbench.datasets.dataset import Subset
    from sharpbench.datasets.loader_file import parse_loader_file

    loader = parse_loader_file(word)
    if loader is None:
        raise InvalidInput(f"--data '{shorten(word)}' names no function of a file; write data.py:make")
    return take_examples(loader.examples(None, Subset()).inputs, slice(2))


def _dimension(group: GroupDescription) -> str:
    return f"dimension {group.dimension}" if group.scope == "full" else f"{group.dimension} scales"


def _shape(text: str) -> tuple[int, ...]:
    sizes = text.split("x")
    if not all(size.isdecimal() and size.strip("0") for size in sizes):
        raise InvalidInput(f"--shape '{shorten(text)}' must be whole numbers above 0, like 1x28x28")
    if len(text) > 60 or math.prod(int(size) for size in sizes) > MAX_EXAMPLE_SIZE:
        raise InvalidInput(f"--shape '{shorten(text)}' must be at most {MAX_EXAMPLE_SIZE:,} numbers, like 3x1024x1024")
    return tuple(int(size) for size in sizes)
