"""Heap: what C's allocator does with memory that is freed."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Of mallopt(3)."""


def kept_heap() -> bool:
    """Ask glibc to keep what is freed; False where there is no glibc.

    Else whatever stores much in each call spends most of its time in page faults, which says nothing of its method.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, 2**30) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
