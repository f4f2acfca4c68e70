"""The classes of commands and groups, and the options of a command from a TOML file (`--config`)."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.files import check_lookup

NOT_IN_A_FILE = ("config", "print_config", "help")
"""Parameters that a file of options does not set."""
FOLDERS = ("--output", "--cache-dir", "--data-dir", "--site")
"""Options of folders that are written into or read."""


class Command(TyperCommand):
    """A command whose help shows no type for flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with that of --help."""
        return _without_flag_types(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the arguments. Raises InvalidInput for an empty folder, as of a variable that is not set."""
        for option, value in zip(["", *args], [*args, "-"], strict=True):
            for name in FOLDERS:
                if option == f"{name}=" or (option == name and not value):
                    raise InvalidInput(_describe_empty(name))
        return list(super().parse_args(ctx, args))


def _describe_empty(option: str) -> str:
    return f"{option} is empty, which would be the working folder; name it '.', or another one"


class Group(TyperGroup):
    """A group of commands whose help shows no type for flags."""

    def get_params(self, ctx: Any) -> list[Any]:
        """The parameters, with that of --help."""
        return _without_flag_types(super().get_params(ctx))


def _without_flag_types(parameters: list[Any]) -> list[Any]:
    for parameter in parameters:
        if getattr(parameter, "is_flag", False) and parameter.metavar is None:
            parameter.metavar = ""
    return parameters


def checking_paths(command: Callable[..., int | None]) -> Callable[..., int | None]:
    """The command, which raises InvalidInput where one of its paths cannot be looked up."""

    @functools.wraps(command)
    def called(**given: Any) -> int | None:
        for value in given.values():
            for path in value if isinstance(value, list) else [value]:
                if isinstance(path, Path):
                    check_lookup(path)
        return command(**given)

    return called


def _read_config(context: typer.Context, path: Path | None) -> Path | None:
    """Make the options of the file the defaults of the command. It runs before other options are read."""
    if path is not None and not context.resilient_parsing:
        context.default_map = {**(context.default_map or {}), **read_options(path, context)}
    return path


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        callback=_read_config,
        is_eager=True,
        help="A TOML file of options by name, such as 'models = \"lenet,mlp\"'; those given here precede it.",
        show_default="none",
    ),
]
PrintConfigOption = Annotated[bool, typer.Option("--print-config", help="Print all options as such a file, and stop.")]


def read_options(path: Path, context: typer.Context) -> dict[str, Any]:
    """The values by parameter of the options in a TOML file, as the command line takes them.

    Raises InvalidInput for a file that cannot be read, and for names and values that the command does not take.
    """
    from sharpbench.training.cohorts.toml import TomlDocument

    check_lookup(path)
    if not path.is_file():
        raise InvalidInput(f"--config '{shorten(str(path))}' is not a file; name a TOML file of options")
    document = TomlDocument.read(str(path))
    known = _options_by_name(context)
    values: dict[str, Any] = {}
    for key, value in document.content.items():
        parameter = known.get(key.replace("_", "-"))
        if parameter is None:
            hint = suggest_names(key, known) or f"`{context.command_path} --help` lists the options"
            raise InvalidInput(f"{document.where(key)}unknown option '{shorten(key)}'; {hint}")
        if value == "" and parameter.opts[0] in FOLDERS:
            raise InvalidInput(f"{document.where(key)}{_describe_empty(parameter.opts[0])}")
        try:
            values[parameter.name] = _as_typed(parameter, value)
        except TypeError as error:
            raise InvalidInput(f"{document.where(key)}{key} must be {error}, not {shorten(repr(value))}") from None
    return values


def _as_typed(parameter: Any, value: object) -> Any:
    """The value as it is typed: a flag as it is, anything else as text, of which a list is several or joined by commas.

    Raises TypeError with what is expected.
    """
    if parameter.is_flag:
        if not isinstance(value, bool):
            raise TypeError("true or false")
        return value
    several = value if isinstance(value, list) else [value]
    if not all(isinstance(each, str | int | float) and not isinstance(each, bool) for each in several):
        raise TypeError("text, a number, or a list of them")
    texts = [str(each) for each in several]
    return texts if parameter.multiple else ",".join(texts)


def format_options(context: typer.Context) -> str:
    """All options with their present values as TOML, which `--config` reads again.

    Options without a value are left out. Paths stay as they were given.
    """
    lines = [f"# {context.command_path}"]
    for name, parameter in _options_by_name(context).items():
        value = context.params.get(parameter.name)
        if value not in (None, [], ()):
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines)


def _toml(value: object) -> str:
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value if isinstance(value, bool | int | float) else str(value))


def _options_by_name(context: typer.Context) -> Mapping[str, Any]:
    """Name of an option without its dashes -> the parameter, for those that a file can set."""
    return {
        parameter.opts[0].removeprefix("--"): parameter
        for parameter in context.command.params
        if parameter.param_type_name == "option" and parameter.name not in NOT_IN_A_FILE
    }
