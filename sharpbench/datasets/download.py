"""Files downloaded from mirrors and verified by their checksum."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from http.client import HTTPException, HTTPResponse
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import urlopen

DOWNLOAD_TIMEOUT_SECONDS = 5.0  # until a mirror answers, and between any two of its packets


class DownloadFailed(OSError):
    """No mirror delivered the file. The message gives the reason for each mirror, in one line."""


def download(name: str, *, mirrors: Sequence[str], size: int, sha256: str) -> bytes:
    """The content of the file `name` from the first mirror that delivers it intact.

    Args:
        name: the file name on every mirror.
        mirrors: URLs that end in a slash, tried in this order.
        size: bytes of the file.
        sha256: the checksum of the file.

    Raises:
        DownloadFailed: where no mirror delivers the file.
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
    """The opened response, or the error, after at most DOWNLOAD_TIMEOUT_SECONDS.

    The timeout of urlopen applies to each address of a host separately, and not to the name lookup, so a silent
    network could block for minutes. Therefore urlopen runs in a thread that is abandoned after the timeout.
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
    except Exception as error:  # raised again in the waiting thread
        if isinstance(error, HTTPError):
            error.close()  # it keeps the connection open for a body that is not read
        answers.put(error)
