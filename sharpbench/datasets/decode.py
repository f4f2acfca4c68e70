"""Images decoded to 8 bits per channel, or refused in one line."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from sharpbench.errors import InvalidInput

MAX_LEVEL = 255
"""The largest value of a channel of 8 bits."""


def decode_image(
    source: Path | IO[bytes], *, name: Path | str | None = None, size: tuple[int, int] | None = None
) -> Image.Image:
    """The decoded image, in grey or colour.

    Args:
        source: the file.
        name: what messages call it; None: `source`.
        size: the width and height that it must have, compared with the header before anything is decoded; None: any.

    Raises:
        InvalidInput: where it cannot be decoded to 8 bits, or has another size.
    """
    shown = str(source if name is None else name)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(source) as image:
                if size is not None and image.size != size:
                    found, expected = ("x".join(map(str, each)) for each in (image.size, size))
                    raise InvalidInput(f"image '{shown}' is {found} where {expected} is expected; replace it")
                if _exceeds_8_bits(image):
                    raise InvalidInput(
                        f"image '{shown}' has more than 8 bits per channel ({image.mode}); convert it to 8 bits"
                    )
                return image.convert("L" if image.mode in ("1", "L") else "RGB")
    except InvalidInput:
        raise
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        cause = str(error).replace(f"'{shown}'", "it").replace(shown, "it").replace(repr(source), "it")
        raise InvalidInput(f"image '{shown}' cannot be decoded ({cause}); replace or delete it") from None


def _exceeds_8_bits(image: Image.Image) -> bool:
    """Whether the file holds more than 8 bits per channel. PIL opens such images in colour as if they had 8."""
    if image.mode[0] in "IF":
        return True
    arguments: list[object] = []
    for tile in getattr(image, "tile", ()):
        arguments += tile.args if isinstance(tile.args, tuple) else [tile.args]
    largest = max((part for part in arguments if isinstance(part, int)), default=0) if image.format == "PPM" else 0
    return largest > MAX_LEVEL or any(";16" in str(part) for part in arguments)
