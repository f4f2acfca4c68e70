"""The numbers of classes from a file."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sharpbench.errors import InvalidInput, shorten, suggest_names
from sharpbench.files import user_path

MAX_CLASS_MAP_BYTES = 2**24
"""The largest class map that is read, far more than a list of names needs."""


def read_class_map(name: str, folders: Sequence[str]) -> tuple[str, ...]:
    """The names of the classes in the order of their numbers.

    The file holds one name per line, the first is class 0 (as timm's --class-map); or a JSON object, name -> number, as
    torchvision's `class_to_idx`.

    Args:
        name: the file.
        folders: the class folders, each of which must have a number.

    Raises:
        InvalidInput: for a file that is neither, for numbers that are not 0 to n - 1, and for a folder without one.
    """
    path = user_path(name)
    try:
        content = path.read_bytes()[: MAX_CLASS_MAP_BYTES + 1].decode()
    except OSError as error:
        raise InvalidInput(f"class map '{name}' cannot be read ({error.strerror}); name another file") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"class map '{name}' is not text in UTF-8; write one class name per line") from None
    if len(content) > MAX_CLASS_MAP_BYTES:
        raise InvalidInput(f"class map '{name}' holds more than {MAX_CLASS_MAP_BYTES:,} characters; name another file")
    classes = _parse_object(name, content) if content.lstrip().startswith("{") else _parse_lines(content)
    if len(set(classes)) < len(classes) or not classes:
        raise InvalidInput(f"class map '{name}' names a class twice, or none; write one class name per line")
    for folder in folders:
        if folder not in classes:
            hint = suggest_names(folder, classes) or "add it"
            raise InvalidInput(f"class map '{name}' has no number for the folder '{shorten(folder)}'; {hint}")
    return classes


def _parse_lines(content: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in content.splitlines() if line.strip())


def _parse_object(name: str, content: str) -> tuple[str, ...]:
    try:
        numbers = json.loads(content)
    except ValueError as error:
        raise InvalidInput(f"class map '{name}' is not JSON ({shorten(str(error))})") from None
    if not all(type(number) is int for number in numbers.values()):
        raise InvalidInput(f"class map '{name}' is not an object of names and whole numbers; write {{\"cat\": 0}}")
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise InvalidInput(f"the numbers of class map '{name}' are not 0 to {len(numbers) - 1}, each once")
    return tuple(sorted(numbers, key=numbers.__getitem__))
