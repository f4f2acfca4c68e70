"""Mirrors: servers that offer the same file under the same name, known by its checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

DOWNLOAD_TIMEOUT_SECONDS = 5.0  # seconds until a mirror has answered, and between any two of its packets


class DownloadFailed(OSError):
    """No mirror gave the file; the message says of each one why, in one line."""


def download(name: str, *, mirrors: Sequence[str], size: int, sha256: str) -> bytes:
    """The file `name`, of `size` bytes, from the first of the mirrors that gives it with this checksum.

    A mirror is a URL that ends in a slash. Raises DownloadFailed where none does.
    """
    failures = []
    for mirror in mirrors:
        try:
            return _fetch(mirror + name, size=size, sha256=sha256)
        except (OSError, HTTPException, ValueError) as error:  # ValueError: a malformed $https_proxy
            cause = error.reason if type(error) is URLError else error
            failures.append(f"{urlsplit(mirror).netloc}: {' '.join(str(cause).split())}")
    raise DownloadFailed("; ".join(failures))


def _fetch(url: str, *, size: int, sha256: str) -> bytes:
    with _open_url(url) as response:
        content = response.read(size + 1)
    if len(content) != size:
        found = "more" if len(content) > size else str(len(content))
        raise DownloadFailed(f"sent {found} bytes where {size} are expected")
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise DownloadFailed(f"sent a file of sha256 {found} where {sha256} is expected")
    return content


def _open_url(url: str) -> HTTPResponse:
    """The opened response, or the error, after at most PATIENCE seconds.

    The timeout of urlopen holds for each address of a host anew and not at all for finding the
    addresses, so that a silent network could take minutes: hence the thread that is not waited for.
    """
    answers: SimpleQueue[HTTPResponse | Exception] = SimpleQueue()
    Thread(target=_request, args=(url, answers), daemon=True).start()
    try:
        answer = answers.get(timeout=DOWNLOAD_TIMEOUT_SECONDS)
    except Empty:
        raise TimeoutError(f"no answer within {DOWNLOAD_TIMEOUT_SECONDS:g} s") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _request(url: str, answers: SimpleQueue[HTTPResponse | Exception]) -> None:
    try:
        answers.put(urlopen(url, timeout=DOWNLOAD_TIMEOUT_SECONDS))
    except Exception as error:  # raised again by the one who waits
        if isinstance(error, HTTPError):
            error.close()  # it holds the connection, for a body that nobody reads
        answers.put(error)
