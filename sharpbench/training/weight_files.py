"""Weight files: found by name or pattern, and read without executing anything."""

from __future__ import annotations

import collections
import glob
import hashlib
import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from sharpbench.datasets.dataset import content_sha256
from sharpbench.errors import InvalidInput, shorten
from sharpbench.files import content_hash, natural_key, user_path

STATE_KEYS = (
    *("state_dict", "model_state_dict", "model", "net", "network", "params", "weights"),
    *("module", "model_state", "net_state_dict", "model_weights", "backbone"),
)
"""The keys under which training scripts store the state of the network in larger files (`module`: DeepSpeed)."""
EMA_KEYS = ("state_dict_ema", "model_ema", "ema", "ema_state_dict", "model_ema_state_dict", "ema_model", "params_ema")
"""The keys of an exponential moving average of the weights. It is taken where there is nothing else, or by '#KEY'."""
ACCURACY_KEYS = (
    *("accuracy", "acc", "acc1", "top1", "prec1", "best_accuracy", "best_acc", "best_acc1", "best_top1", "best_prec1"),
    *("val_accuracy", "val_acc", "test_accuracy", "test_acc"),
)
"""The keys under which training scripts store the accuracy of the network, as a share or in percent."""
MAX_STATE_DEPTH = 7
"""How deep a state may be wrapped in mappings."""
_HEADER_LENGTH_BYTES = 8
"""Bytes at the start of a safetensors file that state the length of its header, which begins with a brace."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StoredWeights:
    """The content of a weight file.

    Attributes:
        tensors: the state of the network by name, on the CPU.
        state: the keys that lead to it, '' where the whole file is the state.
        others: the keys of further states next to it.
        accuracy: the accuracy that the file states, from 0 to 1; None where it states none.
    """

    tensors: dict[str, Tensor]
    state: str = ""
    others: tuple[str, ...] = ()
    accuracy: float | None = None

    def describe_choice(self, where: str) -> str:
        """What was taken from the file, in words; '' where there was no choice."""
        if not self.others and self.state.rpartition(".")[2] not in EMA_KEYS:
            return ""
        average = ", an average of the weights" if self.state.rpartition(".")[2] in EMA_KEYS else ""
        further = "".join(f"; '{where}#{name}' takes '{name}'" for name in self.others)
        return f"weights '{where}': '{self.state}' is taken{average}{further}"


def split_state(name: str) -> tuple[str, str | None]:
    """The name of a file and the key of the state in it: 'net.pth#state_dict_ema'; None where no key is named."""
    path, mark, key = name.rpartition("#")
    return (path, key) if mark and path and key and not user_path(name).is_file() else (name, None)


def find_weight_files(pattern: str) -> list[Path]:
    """The files that `pattern` names, 'net.safetensors' or 'ckpt/*.safetensors', in natural order (2 before 10).

    Raises InvalidInput where there are none, and where two differ only in leading zeros, as 01 and 1 of two series do.
    """
    path = user_path(pattern)
    if path.is_file():
        return [path]
    found = [Path(name) for name in glob.glob(str(path)) if Path(name).is_file()]
    if not found:
        raise InvalidInput(f"there is no file '{pattern}'; name weights (safetensors, or torch's .pt), or 'random'")
    ordered = sorted(found, key=lambda path: (natural_key(str(path)), str(path)))
    for before, after in pairwise(ordered):
        if natural_key(str(before)) == natural_key(str(after)):
            raise InvalidInput(
                f"weights '{shorten(before.name)}' and '{shorten(after.name)}' have the same numbers, so "
                f"'{shorten(pattern)}' names more than one series; name one, or give --weights for each"
            )
    return ordered


def read_weights(path: Path, state: str | None = None) -> StoredWeights:
    """The state of a network from a safetensors file, or from a torch file of tensors and plain values.

    The state is also found under the keys that training scripts use (`state_dict`, `model`, ...).

    Args:
        path: the file.
        state: the key of the state, for files that hold several; None takes the weights themselves before an average.

    Raises:
        InvalidInput: one line, for a file that is missing, damaged, without tensors, or that would execute code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_LENGTH_BYTES + 1)
        read = _read_torch_file(path) if _is_torch_file(path, start) else _read_safetensors(path)
    except OSError as error:
        raise InvalidInput(f"weights '{path}' cannot be read ({error.strerror}); name another file") from None
    accuracy = _find_accuracy(read) if isinstance(read, Mapping) else None
    if state is None:
        return _find_state(path, read, accuracy)
    states = _list_states(read)
    if state not in states:
        known = ", ".join(states) or "none by a key"
        raise InvalidInput(f"weights '{path}' have no state '{shorten(state)}'; they have {shorten(known)}")
    chosen = _find_state(path, states[state], accuracy)
    return StoredWeights(tensors=chosen.tensors, state=_join(state, chosen.state), accuracy=accuracy)


def hash_state(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors by name: of names, types, shapes and bytes, in the order of the names."""
    names = sorted(tensors)
    return content_hash({"names": names, "tensors": content_sha256(tensors[name] for name in names)})


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _find_state(path: Path, read: object, accuracy: float | None, depth: int = 0) -> StoredWeights:
    """The state in the content of a file: the whole of it, or the first of STATE_KEYS and EMA_KEYS that is one."""
    if not isinstance(read, Mapping) or depth > MAX_STATE_DEPTH:
        raise InvalidInput(
            f"weights '{path}' hold a {_kind(read)} instead of tensors by name; save only model.state_dict()"
        )
    if _is_state(read):
        odd = [name for name, value in read.items() if not _is_plain_tensor(value)]
        if odd:
            raise InvalidInput(
                f"weights '{path}' hold a tensor that is not plain and dense under '{shorten(odd[0])}'; save it dense"
            )
        return StoredWeights(tensors=dict(read), accuracy=accuracy)
    states = _list_states(read)
    known = [key for key in (*STATE_KEYS, *EMA_KEYS) if key in states] or list(states)
    if not known:
        unexpected = next(
            (
                f"{name!r} ({_kind(value)})"
                for name, value in read.items()
                if not (isinstance(name, str) and isinstance(value, Tensor))
            ),
            "nothing",
        )
        raise InvalidInput(
            f"weights '{path}' hold {shorten(unexpected)} instead of tensors by name; save only model.state_dict()"
        )
    if len(known) > 1 and known[0] not in (*STATE_KEYS, *EMA_KEYS):
        raise InvalidInput(
            f"weights '{path}' hold several states ({shorten(', '.join(known))}); choose one: "
            f"'{shorten(str(path))}#{known[0]}'"
        )
    inner = _find_state(path, states[known[0]], accuracy, depth + 1)
    others = tuple(known[1:]) if depth == 0 else ()
    return StoredWeights(
        tensors=inner.tensors, state=_join(known[0], inner.state), others=others or inner.others, accuracy=accuracy
    )


def _kind(value: object) -> str:
    """What a value of a file is, for an error."""
    return "NumPy array or other object" if isinstance(value, _InertValue) else type(value).__name__


def _list_states(read: object) -> dict[str, Mapping[object, object]]:
    """The mappings in `read` that are states, or lead to one, by key."""
    if not isinstance(read, Mapping):
        return {}
    return {key: value for key, value in read.items() if isinstance(key, str) and _leads_to_state(value)}


def _leads_to_state(value: object, depth: int = 0) -> bool:
    if not isinstance(value, Mapping) or depth > MAX_STATE_DEPTH:
        return False
    return _is_state(value) or any(
        _leads_to_state(value[key], depth + 1) for key in (*STATE_KEYS, *EMA_KEYS) if key in value
    )


def _is_state(value: Mapping[object, object]) -> bool:
    return bool(value) and all(isinstance(name, str) and isinstance(each, Tensor) for name, each in value.items())


def _is_plain_tensor(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)


def _join(first: str, second: str) -> str:
    return f"{first}.{second}" if second else first


def _find_accuracy(read: Mapping[object, object]) -> float | None:
    """The accuracy that a training script stored next to the state, from 0 to 1; timm's `metric` is in percent."""
    for name, percent in (*((key, False) for key in ACCURACY_KEYS), *((("metric", True),) if "arch" in read else ())):
        value = read.get(name)
        if isinstance(value, Tensor) and value.numel() == 1:
            value = value.item()
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100:
            return value / 100 if percent or value > 1 else float(value)
    return None


def _is_torch_file(path: Path, start: bytes) -> bool:
    """Whether the first bytes are those of a torch file, a zip archive or a pickle, and not of safetensors."""
    length = int.from_bytes(start[:_HEADER_LENGTH_BYTES], "little")
    if start[_HEADER_LENGTH_BYTES:] == b"{" and length + _HEADER_LENGTH_BYTES <= path.stat().st_size:
        return False
    return start[:1] in (b"P", b"\x80")


def _read_safetensors(path: Path) -> object:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InvalidInput(
            f"weights '{path}' are neither intact safetensors ({shorten(str(error))}) nor a torch file; save them again"
        ) from None


class _InertValue:
    """Replaces a value of a class in INERT_NAMES; what the file gives it is dropped."""

    def __new__(cls, *_: object) -> _InertValue:
        return super().__new__(cls)

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


class _InertType(_InertValue):
    """Replaces numpy.dtype; keeps its code, such as 'f8'."""

    def __init__(self, code: object = "", *_: object) -> None:
        self.code = str(code)


def _inert_number(kind: object, content: object = b"", *_: object) -> object:
    """The number that a scalar of NumPy of a common little-endian type holds; an _InertValue for others."""
    form = {"f8": "<d", "f4": "<f", "i8": "<q", "i4": "<i"}.get(getattr(kind, "code", ""))
    if form is None or not isinstance(content, bytes) or len(content) != struct.calcsize(form):
        return _InertValue()
    return struct.unpack(form, content)[0]


_PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_ATTRIBUTE_DICTS = (
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
    "lightning.pytorch.utilities.parsing.AttributeDict",
)
INERT_NAMES: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
    (_InertValue, "argparse.Namespace"),
    *((_InertValue, f"{module}.{name}") for module in ("pathlib", "pathlib._local") for name in _PATHS),
    (_InertType, "numpy.dtype"),
    (_InertValue, "numpy.ndarray"),
    *((_inert_number, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_InertValue, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *((collections.OrderedDict, name) for name in _ATTRIBUTE_DICTS),
]
"""Names that training scripts leave in torch files next to the tensors, and what replaces them: nothing is executed."""


def _read_torch_file(path: Path) -> object:
    """The content of a torch file, limited to tensors, plain containers and INERT_NAMES."""
    try:
        inert = torch.serialization.safe_globals(INERT_NAMES)
        with warnings.catch_warnings(), inert, path.open("rb") as file:  # of a path torch looks at the ending also
            warnings.simplefilter("ignore", UserWarning)  # torch warns about foreign pickles, which are refused
            return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"(?:GLOBAL|global) ([\w.]+)", str(error))
        if found or "weights_only" in str(error).lower():
            what = f" ({found[1]})" if found else ""
            raise InvalidInput(
                f"weights '{path}' hold more than tensors{what}, which could execute code when read, so they are "
                "refused; save only model.state_dict(), best with safetensors"
            ) from None
        raise _damage_error(path, error) from None
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, TypeError, IndexError) as error:
        raise _damage_error(path, error) from None
    except (AttributeError, AssertionError, UnicodeDecodeError, zipfile.BadZipFile, MemoryError) as error:
        raise _damage_error(path, error) from None
    except (struct.error, RecursionError, NotImplementedError) as error:
        raise _damage_error(path, error) from None


def _damage_error(path: Path, error: BaseException) -> InvalidInput:
    cause = shorten(" ".join(str(error).split())) or type(error).__name__
    size = os.path.getsize(path)
    return InvalidInput(
        f"weights '{path}' ({size:,} bytes) are not an intact torch file ({cause}); copy or save them again"
    )
