"""Weight files: read without executing anything, and loaded into the network to which they belong."""

from __future__ import annotations

import glob
import hashlib
import os
import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from sharpbench.errors import InvalidInput, short
from sharpbench.files import user_path

WRAPPER_KEYS = ("state_dict", "model_state_dict", "model", "net", "network", "params", "weights")
"""The keys under which training scripts store the state of the network in larger files."""
NAME_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
"""The prefixes that DataParallel, torch.compile and wrappers put before every name."""
_HEADER_LENGTH_BYTES = 8
"""Bytes at the start of a safetensors file that state the length of its header, which begins with a brace."""


def find_weight_files(pattern: str) -> list[Path]:
    """The files that `pattern` names, 'net.safetensors' or 'ckpt/*.safetensors', in natural order (2 before 10).

    Raises InvalidInput where there are none.
    """
    path = user_path(pattern)
    if path.is_file():
        return [path]
    found = [Path(name) for name in glob.glob(str(path)) if Path(name).is_file()]
    if not found:
        raise InvalidInput(f"there is no file '{pattern}'; name weights (safetensors, or torch's .pt), or 'random'")
    return sorted(found, key=lambda path: [_natural_order(part) for part in re.split(r"(\d+)", str(path))])


def _natural_order(part: str) -> tuple[int, str]:
    return (int(part), "") if part.isdecimal() and len(part) < 19 else (-1, part)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, from a safetensors file or a torch file of only tensors (weights_only=True).

    The state of the network is also found under the keys that training scripts use (`state_dict`, `model`, ...).
    Raises InvalidInput, one line, for a file that is missing, damaged, without tensors, or that would execute code.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_HEADER_LENGTH_BYTES + 1)
        read = _read_torch_file(path) if _is_torch_file(path, start) else _read_safetensors(path)
    except OSError as error:
        raise InvalidInput(f"weights '{path}' cannot be read ({error.strerror}); name another file") from None
    return _find_tensors(path, read)


def hash_file(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_weights(module: nn.Module, weights: Mapping[str, Tensor], *, where: str) -> None:
    """Load `weights` into `module`: every parameter and buffer, with equal shapes.

    A prefix that all names share is removed if the names then fit.

    Args:
        module: the network; it is written to.
        weights: tensors by name, as `read_weights` returns them.
        where: the file, for the message.

    Raises:
        InvalidInput: for tensors that are missing, unknown, or of another shape or type; the message names them.
    """
    wanted = module.state_dict(keep_vars=True)
    given = _strip_prefixes(dict(weights), set(wanted))
    tied = _tied_names(wanted)
    counters = {name for name in wanted if name.rpartition(".")[2] == "num_batches_tracked"}  # not used in eval mode
    missing = [name for name in wanted if not given.keys() & tied[name] and name not in counters]
    unknown = [name for name in given if name not in wanted]
    shapes = [
        f"{name} {list(given[name].shape)} where the network has {list(wanted[name].shape)}"
        for name in given
        if name in wanted and given[name].shape != wanted[name].shape
    ]
    kinds = [
        f"{name} {given[name].dtype} where the network has {wanted[name].dtype}"
        for name in given
        if name in wanted and wanted[name].is_floating_point() != given[name].is_floating_point()
    ]
    differing = [
        f"{name} and {other}, which are one tensor in the network"
        for name in given
        for other in sorted(tied.get(name, set()))
        if name < other and other in given and not torch.equal(given[name], given[other])
    ]
    faults = [
        _describe_names("missing", missing, of=len(wanted)),
        _describe_names("unknown", unknown, of=len(given)),
        _describe_names("of another shape", shapes, of=len(given)),
        _describe_names("of another type", kinds, of=len(given)),
        _describe_names("different", differing, of=len(given)),
    ]
    if any(faults):
        raise InvalidInput(
            f"weights '{where}' do not fit {type(module).__name__}: {'; '.join(filter(None, faults))}; "
            "check --model, and --classes where only the last layer differs"
        )
    module.load_state_dict(given, strict=False)


def _strip_prefixes(given: dict[str, Tensor], wanted: set[str]) -> dict[str, Tensor]:
    """`given` without shared NAME_PREFIXES: as many are removed as make the most names fit."""
    candidates = [given]
    while given and (
        prefix := next((each for each in NAME_PREFIXES if all(name.startswith(each) for name in given)), None)
    ):
        given = {name.removeprefix(prefix): value for name, value in given.items()}
        candidates.append(given)
    return max(candidates, key=lambda each: len(each.keys() & wanted))


def _tied_names(state: Mapping[str, Tensor]) -> dict[str, set[str]]:
    """For each name, all names of the same tensor."""
    groups: dict[int, set[str]] = {}
    for name, value in state.items():
        groups.setdefault(id(value), set()).add(name)
    return {name: groups[id(value)] for name, value in state.items()}


def _is_torch_file(path: Path, start: bytes) -> bool:
    """Whether the first bytes are those of a torch file, a zip archive or a pickle, and not of safetensors."""
    length = int.from_bytes(start[:_HEADER_LENGTH_BYTES], "little")
    if start[_HEADER_LENGTH_BYTES:] == b"{" and length + _HEADER_LENGTH_BYTES <= path.stat().st_size:
        return False
    return start[:1] in (b"P", b"\x80")


def _describe_names(what: str, names: list[str], *, of: int) -> str:
    if not names:
        return ""
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{len(names)} of {of} {what} ({', '.join(name[:120] for name in names[:3])}{more})"


def _read_safetensors(path: Path) -> object:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise InvalidInput(
            f"weights '{path}' are neither intact safetensors ({short(str(error))}) nor a torch file; save them again"
        ) from None


def _read_torch_file(path: Path) -> object:
    """The content of a torch file, limited to tensors and plain containers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch warns about foreign pickles, which are refused
            return torch.load(path, map_location="cpu", weights_only=True)
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
    cause = short(" ".join(str(error).split())) or type(error).__name__
    size = os.path.getsize(path)
    return InvalidInput(
        f"weights '{path}' ({size:,} bytes) are not an intact torch file ({cause}); copy or save them again"
    )


def _find_tensors(path: Path, read: object, depth: int = 0) -> dict[str, Tensor]:
    if isinstance(read, Mapping) and depth < len(WRAPPER_KEYS):
        if read and all(isinstance(name, str) and isinstance(value, Tensor) for name, value in read.items()):
            odd = [name for name, value in read.items() if not _is_plain_tensor(value)]
            if odd:
                raise InvalidInput(
                    f"weights '{path}' hold a tensor that is not plain and dense under '{short(odd[0])}'; save it dense"
                )
            return dict(read)
        for key in WRAPPER_KEYS:
            if isinstance(read.get(key), Mapping):
                return _find_tensors(path, read[key], depth + 1)
        unexpected = next(
            (f"'{name}' ({type(value).__name__})" for name, value in read.items() if not isinstance(value, Tensor)),
            "nothing",
        )
        raise InvalidInput(
            f"weights '{path}' hold {short(unexpected)} instead of tensors; save only model.state_dict()"
        )
    raise InvalidInput(
        f"weights '{path}' hold a {type(read).__name__} instead of tensors by name; save only model.state_dict()"
    )


def _is_plain_tensor(value: Tensor) -> bool:
    return value.layout == torch.strided and not (value.is_meta or value.is_quantized or value.is_nested)
