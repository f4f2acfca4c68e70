"""`sharpbench spectrum`: the largest eigenvalues of the Hessian, of its batches and blocks, and their density."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sharpbench.cli.command import ConfigOption, PrintConfigOption, format_options
from sharpbench.cli.exits import EXIT_FAILED, Interrupted, unwritable
from sharpbench.cli.network_options import NetworkOptions, with_network_options
from sharpbench.cli.options import JsonObjectOption, OwnModelOption, WeightsOption
from sharpbench.errors import InvalidInput
from sharpbench.version import __version__

if TYPE_CHECKING:
    from sharpbench.core.subject import Subject
    from sharpbench.curvature.spectrum import Spectrum, SpectrumOptions

PAGE, DATA, VECTORS = "SPECTRUM.md", "spectrum.json", "eigenvectors.safetensors"


@with_network_options
def spectrum(
    context: typer.Context,
    model: OwnModelOption,
    weights: WeightsOption = "random",
    *,
    network: NetworkOptions,
    count: Annotated[int, typer.Option(help="Eigenvalues, the largest first.")] = 5,
    kind: Annotated[str, typer.Option(help="hessian or gauss-newton.")] = "hessian",
    per_batch: Annotated[
        int | None,
        typer.Option(help="Also those of the loss of each batch of N examples.", metavar="N", show_default="none"),
    ] = None,
    group_by: Annotated[
        str | None,
        typer.Option(
            "--group-by", help="Also those of each diagonal block, by 'layer' or 'kind'.", show_default="no blocks"
        ),
    ] = None,
    probes: Annotated[
        int, typer.Option(help="Random vectors of the density of all eigenvalues; 0 for no density.")
    ] = 0,
    steps: Annotated[int, typer.Option(help="Lanczos steps on each of them.")] = 60,
    tolerance: Annotated[
        float, typer.Option(help="Of the residuals, relative to the largest modulus of an eigenvalue.")
    ] = 1e-3,
    products: Annotated[
        int, typer.Option(help="Largest number of products with one matrix for its eigenvalues.")
    ] = 1000,
    eigenvectors: Annotated[
        bool, typer.Option("--eigenvectors", help=f"Also write the eigenvectors, to {VECTORS} in --output.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option(help=f"Folder of {PAGE}, {DATA} and the figures.", show_default="not written"),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of random weights and of the random vectors.")] = 0,
    as_json: JsonObjectOption = False,
    config: ConfigOption = None,  # its callback has made its options defaults
    print_config: PrintConfigOption = False,
) -> int:
    """Print the largest eigenvalues of the Hessian of a network, and the ratio of the first to the fifth.

    Exit status: 0 found, 1 some eigenvalue did not reach the tolerance, 2 bad usage or input, 130 interrupted.
    """
    if print_config:
        typer.echo(format_options(context))
        return 0
    from sharpbench.curvature.spectrum import SpectrumOptions

    if eigenvectors and output is None:
        raise InvalidInput("--eigenvectors writes into --output, which is not given; name a folder")
    options = SpectrumOptions(
        count=count,
        kind=kind,  # type: ignore[arg-type]  # it checks
        batch_size=per_batch,
        groups=group_by,
        probes=probes,
        steps=steps,
        tolerance=tolerance,
        products=products,
        seed=seed,
    )
    subjects = network.load_subjects(network.evaluation(model, weights, seed=seed))
    if len(subjects) > 1:
        raise InvalidInput(f"--weights names {len(subjects)} files; name one")
    ((source, subject),) = subjects.items()
    found = _find(subject, options)
    title = f"{model} at {source}"
    _show(found, title, output, as_json=as_json, eigenvectors=eigenvectors)
    return EXIT_FAILED if found.unconverged else 0


def _find(subject: Subject, options: SpectrumOptions) -> Spectrum:
    """The spectrum, with progress."""
    from sharpbench.cli.bars import follow_steps
    from sharpbench.core.measure import NotApplicable
    from sharpbench.curvature.spectrum import Spectrum, iterate_spectrum

    found = None
    try:
        with contextlib.redirect_stdout(sys.stderr):  # networks may print
            steps = iterate_spectrum(subject, options)
            for step in follow_steps(steps, lambda step: step if isinstance(step, str) else None, start="starting"):
                if isinstance(step, Spectrum):
                    found = step
    except NotApplicable as error:
        raise InvalidInput(f"no spectrum: {error}") from None
    except KeyboardInterrupt:
        raise Interrupted("") from None
    assert found is not None
    return found


def _show(found: Spectrum, title: str, output: Path | None, *, as_json: bool, eigenvectors: bool) -> None:
    """Print the spectrum, and write its files where a folder was named."""
    from rich.console import Console

    from sharpbench.files import atomic_write
    from sharpbench.report.page import show_page, write_page
    from sharpbench.report.spectrum import describe_spectrum, spectrum_data

    page, data = describe_spectrum(found, title), spectrum_data(found, title)
    files: list[Path] = []
    if output is not None:
        files = write_page(page, output, name=PAGE, version=__version__, command="sharpbench spectrum")
        try:
            atomic_write(output / DATA, data + "\n")
            files.append(output / DATA)
            if eigenvectors:
                from safetensors.torch import save

                named = {
                    f"{place}/{name}": value.contiguous().cpu()
                    for place, vector in enumerate(found.eigenvectors, start=1)
                    for name, value in vector.items()
                }
                atomic_write(output / VECTORS, save(named))
                files.append(output / VECTORS)
        except OSError as error:
            raise unwritable(output, error) from None
    if as_json:
        typer.echo(data)
    else:
        show_page(page, Console())
    if files:
        typer.echo(", ".join(str(each) for each in files if each.suffix != ".png"), err=as_json)
