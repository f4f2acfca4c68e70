"""Exchange: a population of trained networks as a folder that others can load, and back into the zoo.

The folder holds one safetensors file a network, one JSON table of them, and a README. What comes in is checked
whole before anything of it is kept: hashes, recipes, and that names of files are names and no paths.
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
from sharpbench.errors import InvalidInput, near, short
from sharpbench.files import atomic_folder
from sharpbench.training.network import TrainingResult
from sharpbench.training.recipe import available_parts, network_key, parse_recipe
from sharpbench.training.zoo import FORMAT, Origin, Zoo, ZooEntry
from sharpbench.version import __version__

# Table: what the folder of a population is called inside, and what a row of its table must hold.

TABLE_FILE, README_FILE = "networks.json", "README.md"
TABLE_FORMAT = 1
FILE_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z_-]{0,99}\.safetensors")
SHA256 = re.compile(r"[0-9a-f]{64}")
DEVICES = ("cpu", "cuda")
MAX_TABLE_BYTES = 2**28
"""Bytes of a table: more than any population needs."""
ROW_KEYS = ("file", "sha256", "bytes", "data_sha256", "device", "recipe", "truth")


# Outgoing: networks of the zoo into a folder that others can load.

README_TEMPLATE = """\
# {count} trained networks

Made by sharpbench {version}, with

    {command}

`networks.json` holds a row for each network: `file`, its weights by parameter name (safetensors); `sha256` and
`bytes` of that file; `recipe`, how it was trained; `truth`, what came of it (losses, accuracies, `gap`, `fitted`);
`data_sha256`, the content of the data set; `device`. Nothing here needs sharpbench:

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

`pandas.json_normalize(table["networks"])` is the table. `sharpbench zoo import FOLDER` takes the networks in.
"""


def export_networks(zoo: Zoo, entries: Sequence[ZooEntry], folder: Path, *, command: str) -> None:
    """Write the networks of `entries` and their table into `folder`, which appears complete or not at all.

    command: the words that repeat it, for the table. Raises InvalidInput for a folder that holds something, for
    no entries, and for one that is damaged or does not say what it came of.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"'{folder}' is there already and not empty; name a new folder")
    if not entries:
        raise InvalidInput("no network in the cache is like that; `sharpbench zoo list` shows what there is")
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
            (draft / TABLE_FILE).write_text(json.dumps(table, indent=1, allow_nan=False) + "\n", encoding="utf-8")
            page = README_TEMPLATE.format(count=len(rows), version=__version__, command=command)
            (draft / README_FILE).write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write '{folder}': {error.strerror}; name another folder") from None


def _export_network(zoo: Zoo, entry: ZooEntry, folder: Path) -> dict[str, Any]:
    packed = zoo.packed(entry.key)
    if packed is None or entry.origin is None:
        fault = "is damaged" if packed is None else "does not say what it came of"
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


# Incoming: the networks of an exported folder into the zoo, after all of it has been checked.

GAP_TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class ImportCounts:
    """How many networks were taken in, and how many were there already."""

    added: int
    present: int


@dataclass(frozen=True, slots=True)
class _CheckedRow:
    """A row of a table that can be believed."""

    path: Path
    sha256: str
    key: str
    origin: Origin
    truth: Mapping[str, Any]


def import_networks(zoo: Zoo, folder: Path, *, plugins: Sequence[Path] = ()) -> ImportCounts:
    """Store the networks of an exported folder in the zoo; those that are there already stay as they are.

    Everything is checked before the first is stored. Raises InvalidInput, one line that names the file and the
    entry. What cannot be checked is that the networks are what training would give: whose folder it is, vouches.
    """
    rows = _read_rows(folder)
    offered = available_parts(plugins)
    checked: list[_CheckedRow] = []
    for number, row in enumerate(rows):
        try:
            checked.append(_check_row(folder, row, offered))
        except InvalidInput as error:
            raise InvalidInput(f"{folder / TABLE_FILE}, networks[{number}]: {error}; nothing was imported") from None
    for what in ("path", "key"):
        twice = _find_repeated([getattr(each, what) for each in checked])
        if twice is not None:
            name = checked[twice].path.name
            raise InvalidInput(
                f"{folder / TABLE_FILE}, networks[{twice}]: '{name}' is there twice; nothing was imported"
            )
    fresh = [each for each in checked if zoo.packed(each.key) is None]
    for count, each in enumerate(fresh):
        _store_network(zoo, each, before=count, of=len(fresh))
    return ImportCounts(len(fresh), len(checked) - len(fresh))


def _read_rows(folder: Path) -> list[Any]:
    """The rows of the table, whatever they are."""
    path = folder / TABLE_FILE
    try:
        _require_plain_file(path)
        if path.stat().st_size > MAX_TABLE_BYTES:
            raise InvalidInput(f"{path} holds more than {MAX_TABLE_BYTES:,} bytes; it is no table of networks")
        table = parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InvalidInput(f"there is no {path}; name a folder that `sharpbench zoo export` has made") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read ({error.strerror}); name another folder") from None
    except ValueError as error:
        if isinstance(error, InvalidInput):
            raise
        raise InvalidInput(f"{path} is no table of networks ({short(str(error))}); fetch the folder again") from None
    if not isinstance(table, dict) or not isinstance(table.get("networks"), list):
        raise InvalidInput(f"{path} is no table of networks; fetch the folder again")
    for name, known in (("format", TABLE_FORMAT), ("zoo_format", FORMAT)):
        if table.get(name) != known or isinstance(table.get(name), bool):
            made = short(str(table.get("sharpbench")))
            raise InvalidInput(
                f"{path}: {name} {short(str(table.get(name)))}, of sharpbench {made}, where this version, "
                f"{__version__}, reads {known}; use the version that wrote it"
            )
    if not table["networks"]:
        raise InvalidInput(f"{path} holds no network; fetch the folder again")
    return list(table["networks"])


def _check_row(folder: Path, row: Any, offered: Inner) -> _CheckedRow:
    """The row, if file, hashes, recipe and truth are sound."""
    check_names(row, ROW_KEYS, remedy="fetch the folder again")
    name = row["file"]
    if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
        raise InvalidInput(f"file {short(repr(name))} is no name of a safetensors file in this folder; do not trust it")
    for key in ("sha256", "data_sha256"):
        if not isinstance(row[key], str) or not SHA256.fullmatch(row[key]):
            raise InvalidInput(f"'{name}': {key} {short(repr(row[key]))} is no SHA-256 in lower case")
    if row["device"] not in DEVICES:
        raise InvalidInput(f"'{name}': device {short(repr(row['device']))} is none of {', '.join(DEVICES)}")
    try:
        if not isinstance(row["recipe"], dict):
            raise InvalidInput(f"recipe {short(repr(row['recipe']))} is no object")
        recipe = parse_recipe(row["recipe"], offered)
        truth = _check_result(row["truth"])
    except InvalidInput as error:
        raise InvalidInput(f"'{name}': {error}") from None
    path = folder / name
    _check_file(path, row["bytes"], row["sha256"])
    origin = Origin(recipe.row(), row["data_sha256"], row["device"])
    return _CheckedRow(path, row["sha256"], network_key(recipe, origin.data, origin.device), origin, truth)


def _check_result(row: object) -> dict[str, Any]:
    """What became of the network, if it has the fields of Truth, each of its type."""
    names = [item.name for item in fields(TrainingResult)]
    if not isinstance(row, dict):
        raise InvalidInput(f"truth {short(repr(row))} is no object")
    for name in row:
        if name not in names:
            raise InvalidInput(f"truth has no '{short(name)}'; {near(name, names) or 'it has ' + ', '.join(names)}")
    hints = get_type_hints(TrainingResult)
    for name in names:
        if name not in row:
            raise InvalidInput(f"truth lacks '{name}'; it is of another version of sharpbench")
        if wrong := field_error(row[name], hints[name]):
            raise InvalidInput(f"truth: {name}={short(str(row[name]))} {wrong}")
    if wrong := _find_inconsistency(TrainingResult(**row)):
        raise InvalidInput(f"truth: {wrong}; do not trust it")
    return dict(row)


def _find_inconsistency(truth: TrainingResult) -> str:
    """What cannot be so in any network, '' where all can."""
    for name in ("train_accuracy", "test_accuracy"):
        if not 0 <= getattr(truth, name) <= 1:
            return f"{name}={getattr(truth, name)} is not from 0 to 1"
    if abs(truth.train_accuracy - truth.test_accuracy - truth.gap) > GAP_TOLERANCE:
        return f"gap={truth.gap} is not training less test accuracy"
    for name in ("steps", "epochs", "seconds"):
        if getattr(truth, name) < 0:
            return f"{name}={getattr(truth, name)} is below 0"
    if truth.fitted and truth.diverged:
        return "a network that diverged is said to be fitted"
    return ""


def _require_plain_file(path: Path) -> None:
    """A link, which may lead anywhere, or a pipe, which may never end, is no file of such a folder."""
    if not stat.S_ISREG(path.lstat().st_mode):
        raise InvalidInput(f"'{path.name}' is no plain file; copy the folder without links")


def _check_file(path: Path, size: object, sha256: str) -> None:
    """Raises InvalidInput unless the file has the size and hash of the table, and is safetensors."""
    try:
        _require_plain_file(path)
        found = path.stat().st_size
        if isinstance(size, bool) or found != size:
            raise InvalidInput(
                f"'{path.name}' holds {found:,} bytes where the table says {short(str(size))}; fetch it again"
            )
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != sha256:
            raise InvalidInput(
                f"'{path.name}' has the hash {digest[:16]}... where the table says {sha256[:16]}...; fetch it again"
            )
        with safetensors.safe_open(path, framework="pt") as opened:
            if not list(opened.keys()):
                raise InvalidInput(f"'{path.name}' holds no tensor; fetch it again")
    except FileNotFoundError:
        raise InvalidInput(f"there is no '{path.name}'; fetch it again") from None
    except OSError as error:
        raise InvalidInput(f"'{path.name}' cannot be read ({error.strerror}); copy it anew") from None
    except safetensors.SafetensorError as error:
        raise InvalidInput(
            f"'{path.name}' is no sound safetensors file ({short(str(error))}); fetch it again"
        ) from None


def _find_repeated(values: Sequence[object]) -> int | None:
    """The place of the first value that stood before."""
    seen: set[object] = set()
    for index, value in enumerate(values):
        if value in seen:
            return index
        seen.add(value)
    return None


def _store_network(zoo: Zoo, each: _CheckedRow, *, before: int, of: int) -> None:
    """Store one network; its file is read again, and may have changed since it was checked."""
    try:
        packed = each.path.read_bytes()
        if hashlib.sha256(packed).hexdigest() != each.sha256:
            raise InvalidInput(f"'{each.path}' changed while it was read")
        zoo.save(each.key, safetensors.torch.load(packed), each.truth, origin=each.origin)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        cause = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"{cause}; {before} of {of} networks were imported before it, and stay") from None
