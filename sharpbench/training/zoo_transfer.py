"""Trained networks exported to a folder that others can load, and imported from it into the zoo.

The folder holds one safetensors file per network, one JSON table of the networks, and a README. An import checks
the whole folder before it stores anything: hashes, recipes, results, and that file names are not paths.
"""

from __future__ import annotations

import hashlib
import json
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

import safetensors
import safetensors.torch

from sharpbench.core.fields import check_names, field_error
from sharpbench.core.jsonl import parse_json
from sharpbench.core.spec import Inner
from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.files import atomic_folder
from sharpbench.training.network import TrainingResult
from sharpbench.training.recipe import Recipe, available_parts, network_key, parse_recipe
from sharpbench.training.zoo import FORMAT, Origin, Zoo, ZooEntry
from sharpbench.version import __version__

TABLE_FILE, README_FILE = "networks.json", "README.md"
TABLE_FORMAT = 1
FILE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}\.safetensors")
SHA256 = re.compile(r"[0-9a-f]{64}")
DEVICES = ("cpu", "cuda")
MAX_TABLE_BYTES = 2**25
"""Of a table that is written or read, of some 25,000 networks; hostile JSON takes thirty times its size in memory."""
ROW_KEYS = ("file", "sha256", "bytes", "data_sha256", "device", "recipe", "truth")

README_TEMPLATE = """\
# {count} trained networks

Made by sharpbench {version}, with

    {command}

`networks.json` holds a row for each network: `file`, its weights by parameter name (safetensors); `sha256` and
`bytes` of that file; `recipe`, how it was trained; `truth`, its losses, accuracies, `gap` and `fitted`;
`data_sha256`, the content of the data set; `device`. The files are read without sharpbench:

```python
import json
from pathlib import Path
from safetensors.numpy import load_file  # or safetensors.torch

folder = Path(".")
table = json.loads((folder / "networks.json").read_text(encoding="utf-8"))
for row in table["networks"]:
    weights = load_file(folder / row["file"])
    parameters = sum(value.size for value in weights.values())
    print(row["recipe"]["model"], row["recipe"]["label_noise"], row["truth"]["gap"], parameters)
```

`pandas.json_normalize(table["networks"])` is the table. `sharpbench zoo import FOLDER` imports the networks.
"""


def export_networks(zoo: Zoo, entries: Sequence[ZooEntry], folder: Path, *, command: str) -> None:
    """Write the networks of `entries` and their table to `folder`, which appears complete or not at all.

    Args:
        zoo: the zoo that holds the entries.
        entries: the networks to export.
        folder: a new or empty folder.
        command: the command line that repeats the export, for table and README.

    Raises:
        InvalidInput: where the folder is not empty or cannot be written, where there are no entries, or where an
            entry is damaged or was stored without its recipe.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"'{folder}' already exists and is not empty; name a new folder")
    if not entries:
        raise InvalidInput("no network in the cache matches; `sharpbench zoo list` shows all networks")
    try:
        with atomic_folder(folder) as draft:
            rows = [_export_network(zoo, entry, draft) for entry in entries]
            table = {
                "format": TABLE_FORMAT,
                "zoo_format": FORMAT,
                "sharpbench": __version__,
                "command": command,
                "networks": rows,
            }
            text = json.dumps(table, indent=1, allow_nan=False) + "\n"
            if len(text) > MAX_TABLE_BYTES:
                raise InvalidInput(
                    f"the table of {len(rows):,} networks takes {len(text):,} bytes, over {MAX_TABLE_BYTES:,}; export "
                    "them in several folders (--models)"
                )
            (draft / TABLE_FILE).write_text(text, encoding="utf-8")
            page = README_TEMPLATE.format(count=len(rows), version=__version__, command=command)
            (draft / README_FILE).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write '{folder}': {error.strerror}; name another folder") from None


def _export_network(zoo: Zoo, entry: ZooEntry, folder: Path) -> dict[str, Any]:
    """Write the weights of one network to `folder`; its row of the table."""
    packed = zoo.read_packed(entry.key)
    if packed is None or entry.origin is None:
        fault = "is damaged" if packed is None else "was stored without its recipe"
        raise InvalidInput(f"network {entry.key[:16]} {fault}; train it again with `sharpbench run`")
    name = f"{entry.key[:32]}.safetensors"
    (folder / name).write_bytes(packed)
    return {
        "file": name,
        "sha256": hashlib.sha256(packed).hexdigest(),
        "bytes": len(packed),
        "data_sha256": entry.origin.data,
        "device": entry.origin.device,
        "recipe": dict(entry.origin.recipe),
        "truth": dict(entry.result),
    }


GAP_TOLERANCE = 1e-9
"""The largest difference between a stated gap and that of the stated accuracies, from rounding."""


@dataclass(frozen=True, slots=True)
class ImportedNetwork:
    """A network of an exported folder: how and on what content of data it was trained, and the kind of the device."""

    recipe: Recipe
    data_sha256: str
    device: str


@dataclass(frozen=True, slots=True)
class Import:
    """The number of networks that were added to the zoo, of those that were in it already, and all of them."""

    added: int
    present: int
    networks: tuple[ImportedNetwork, ...]


@dataclass(frozen=True, slots=True)
class _CheckedRow:
    """A row of a table whose file, hashes, recipe and result have been checked."""

    path: Path
    sha256: str
    key: str
    network: ImportedNetwork
    result: Mapping[str, Any]


def import_networks(zoo: Zoo, folder: Path, *, plugins: Sequence[Path] = ()) -> Import:
    """Store the networks of an exported folder in the zoo. Networks that are in the zoo already stay unchanged.

    Everything is checked before the first network is stored. Whether the networks are those that training gives
    cannot be checked: import only folders whose author you trust.

    Args:
        zoo: the zoo that receives the networks.
        folder: a folder that `export_networks` wrote.
        plugins: Python files with models, data sets and optimisers that the recipes name; they are executed.

    Raises:
        InvalidInput: where the folder is damaged or inconsistent. The message is one line with file and entry.
    """
    rows = _read_rows(folder)
    offered = available_parts(plugins)
    checked: list[_CheckedRow] = []
    for number, row in enumerate(rows):
        try:
            checked.append(_check_row(folder, row, offered))
        except InvalidInput as error:
            raise InvalidInput(f"{folder / TABLE_FILE}, networks[{number}]: {error}; nothing was imported") from None
    for identity in ("path", "key"):
        repeated = _find_repeated([getattr(each, identity) for each in checked])
        if repeated is not None:
            name = checked[repeated].path.name
            raise InvalidInput(
                f"{folder / TABLE_FILE}, networks[{repeated}]: '{name}' occurs twice; nothing was imported"
            )
    fresh = [each for each in checked if zoo.read_packed(each.key) is None]
    for count, each in enumerate(fresh):
        _store_network(zoo, each, before=count, of=len(fresh))
    return Import(len(fresh), len(checked) - len(fresh), tuple(each.network for each in checked))


def _read_rows(folder: Path) -> list[Any]:
    """The rows of the table, not yet checked."""
    path = folder / TABLE_FILE
    try:
        _require_plain_file(path)
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise InvalidInput(f"{path} holds more than {MAX_TABLE_BYTES:,} bytes; it is not a table of networks")
        table = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"there is no {path}; name a folder that `sharpbench zoo export` wrote") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror}); name another folder") from None
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(
            f"{path} is not a table of networks ({shorten(str(error))}); fetch the folder again"
        ) from None
    if not isinstance(table, dict) or not isinstance(table.get("networks"), list):
        raise InvalidInput(f"{path} is not a table of networks; fetch the folder again")
    for name, known in (("format", TABLE_FORMAT), ("zoo_format", FORMAT)):
        if table.get(name) != known or isinstance(table.get(name), bool):
            made = shorten(str(table.get("sharpbench")))
            raise InvalidInput(
                f"{path}: {name} {shorten(str(table.get(name)))}, written by sharpbench {made}; this version, "
                f"{__version__}, reads {known}; use the version that wrote it"
            )
    if not table["networks"]:
        raise InvalidInput(f"{path} holds no network; fetch the folder again")
    return list(table["networks"])


def _check_row(folder: Path, row: Any, offered: Inner) -> _CheckedRow:
    """The row, after its file, hashes, recipe and result have been checked."""
    check_names(row, ROW_KEYS, remedy="fetch the folder again")
    name = row["file"]
    if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
        raise InvalidInput(
            f"file {shorten(repr(name))} is not the name of a safetensors file in this folder; do not trust it"
        )
    for key in ("sha256", "data_sha256"):
        if not isinstance(row[key], str) or not SHA256.fullmatch(row[key]):
            raise InvalidInput(f"'{name}': {key} {shorten(repr(row[key]))} is not a SHA-256 in lower case")
    if row["device"] not in DEVICES:
        raise InvalidInput(f"'{name}': device {shorten(repr(row['device']))} is none of {', '.join(DEVICES)}")
    try:
        if not isinstance(row["recipe"], dict):
            raise InvalidInput(f"recipe {shorten(repr(row['recipe']))} is not an object")
        recipe = parse_recipe(row["recipe"], offered)
        result = _check_result(row["truth"])
    except InvalidInput as error:
        raise InvalidInput(f"'{name}': {error}") from None
    path = folder / name
    _check_file(path, row["bytes"], row["sha256"])
    network = ImportedNetwork(recipe, row["data_sha256"], row["device"])
    return _CheckedRow(path, row["sha256"], network_key(recipe, network.data_sha256, network.device), network, result)


def _check_result(row: object) -> dict[str, Any]:
    """The row of a TrainingResult, after its fields and their types have been checked."""
    names = [item.name for item in fields(TrainingResult)]
    if not isinstance(row, dict):
        raise InvalidInput(f"truth {shorten(repr(row))} is not an object")
    for name in row:
        if name not in names:
            raise InvalidInput(
                f"truth has no '{shorten(name)}'; {suggest_names(name, names) or 'it has ' + ', '.join(names)}"
            )
    hints = get_type_hints(TrainingResult)
    for name in names:
        if name not in row:
            raise InvalidInput(f"truth lacks '{name}'; it is of another version of sharpbench")
        if wrong := field_error(row[name], hints[name]):
            raise InvalidInput(f"truth: {name}={shorten(str(row[name]))} {wrong}")
    if wrong := _find_inconsistency(TrainingResult(**row)):
        raise InvalidInput(f"truth: {wrong}; do not trust it")
    return dict(row)


def _find_inconsistency(result: TrainingResult) -> str:
    """What no training result can be, or '' where the result is possible."""
    for name in ("train_accuracy", "test_accuracy"):
        if not 0 <= getattr(result, name) <= 1:
            return f"{name}={getattr(result, name)} is not from 0 to 1"
    if abs(result.train_accuracy - result.test_accuracy - result.gap) > GAP_TOLERANCE:
        return f"gap={result.gap} is not the training accuracy minus the test accuracy"
    for name in ("steps", "epochs", "seconds"):
        if getattr(result, name) < 0:
            return f"{name}={getattr(result, name)} is below 0"
    if result.fitted and result.diverged:
        return "the network is both fitted and diverged"
    return ""


def _require_plain_file(path: Path) -> None:
    """Raises InvalidInput for a link, which may lead anywhere, and for a pipe, which may never end."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InvalidInput(f"'{path.name}' is not a plain file; copy the folder without links")


def _check_file(path: Path, size: object, sha256: str) -> None:
    """Raises InvalidInput unless the file has the size and hash of the table, and is safetensors."""
    try:
        _require_plain_file(path)
        found = path.stat().st_size
        if isinstance(size, bool) or found != size:
            raise InvalidInput(
                f"'{path.name}' holds {found:,} bytes but the table states {shorten(str(size))}; fetch it again"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            raise InvalidInput(
                f"'{path.name}' has the hash {digest[:16]}... but the table states {sha256[:16]}...; fetch it again"
            )
        with safetensors.safe_open(path, framework="pt") as opened:
            if not list(opened.keys()):
                raise InvalidInput(f"'{path.name}' does not hold a tensor; fetch it again")
    except FileNotFoundError:
        raise InvalidInput(f"there is no '{path.name}'; fetch it again") from None
    except OSError as error:
        raise InvalidInput(f"'{path.name}' cannot be read ({error.strerror}); copy it again") from None
    except safetensors.SafetensorError as error:
        raise InvalidInput(
            f"'{path.name}' is not an intact safetensors file ({shorten(str(error))}); fetch it again"
        ) from None


def _find_repeated(values: Sequence[object]) -> int | None:
    """The index of the first value that equals an earlier one."""
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            return index
        seen.add(value)
    return None


def _store_network(zoo: Zoo, each: _CheckedRow, *, before: int, of: int) -> None:
    """Store one network. Its file is read again, and its hash checked again, since it may have changed."""
    try:
        packed = each.path.read_bytes()
        if hashlib.sha256(packed).hexdigest() != each.sha256:
            raise InvalidInput(f"'{each.path}' changed while it was read")
        network = each.network
        origin = Origin(network.recipe.row(), network.data_sha256, network.device)
        zoo.save(each.key, safetensors.torch.load(packed), each.result, origin=origin)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"{cause}; {before} of {of} networks were imported before it and remain") from None
