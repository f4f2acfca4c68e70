"""Outgoing: networks of the zoo into a folder that others can load."""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sharpbench.errors import InvalidInput
from sharpbench.exchange.table import README, TABLE, TABLE_FORMAT
from sharpbench.version import __version__
from sharpbench.zoo import FORMAT, Entry, Zoo

PAGE = """\
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


def export(zoo: Zoo, entries: Sequence[Entry], folder: Path, *, command: str) -> None:
    """Write the networks of `entries` and their table into `folder`, which appears complete or not at all.

    command: the words that repeat it, for the table. Raises InvalidInput for a folder that holds something, for
    no entries, and for one that is damaged or does not say what it came of.
    """
    folder = folder.resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InvalidInput(f"'{folder}' is there already and not empty; name a new folder")
    if not entries:
        raise InvalidInput("no network in the cache is like that; `sharpbench zoo list` shows what there is")
    draft = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        draft.mkdir(parents=True)
        rows = [_exported(zoo, entry, draft) for entry in entries]
        table = {
            "format": TABLE_FORMAT,
            "zoo_format": FORMAT,
            "sharpbench": __version__,
            "command": command,
            "networks": rows,
        }
        (draft / TABLE).write_text(json.dumps(table, indent=1, allow_nan=False) + "\n", encoding="utf-8")
        page = PAGE.format(count=len(rows), version=__version__, command=command)
        (draft / README).write_text(page, encoding="utf-8")
        draft.rename(folder)
    except OSError as error:
        raise InvalidInput(f"cannot write '{folder}': {error.strerror}; name another folder") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _exported(zoo: Zoo, entry: Entry, folder: Path) -> dict[str, Any]:
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
