"""Downloading: what is not the file, bit for bit, is not taken; a silent network is given up soon."""

import hashlib
import socket
import threading
from collections.abc import Iterator

import pytest

from sharpbench.datasets import download as module
from sharpbench.datasets.download import DownloadFailed, download

BODY = bytes(range(200))
SUM = hashlib.sha256(BODY).hexdigest()


@pytest.fixture
def closed() -> str:
    """A mirror at a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/"


@pytest.fixture
def silent() -> Iterator[str]:
    """A mirror that takes the connection and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        yield f"http://127.0.0.1:{server.getsockname()[1]}/"


def _download(*mirrors: str) -> bytes:
    return download("file.gz", mirrors=mirrors, size=len(BODY), sha256=SUM)


def test_the_file(mirror):
    mirror.answers["file.gz"] = BODY
    assert _download(mirror.url) == BODY


def test_the_next_mirror_is_asked(mirror, closed):
    mirror.answers["file.gz"] = BODY
    assert _download(closed, mirror.url) == BODY


def test_a_file_of_another_checksum(mirror):
    other = bytes(len(BODY))
    mirror.answers["file.gz"] = other
    found = hashlib.sha256(other).hexdigest()
    with pytest.raises(DownloadFailed, match=f"sent a file of sha256 {found} where {SUM} is expected"):
        _download(mirror.url)


def test_a_longer_file(mirror):
    mirror.answers["file.gz"] = BODY + b"\0"
    with pytest.raises(DownloadFailed, match="sent more bytes where 200 are expected"):
        _download(mirror.url)


def test_a_connection_that_breaks_off(mirror):
    mirror.answers["file.gz"] = BODY[:77]
    mirror.promised = lambda body: len(BODY)
    with pytest.raises(DownloadFailed, match="sent 77 bytes where 200 are expected"):
        _download(mirror.url)


def test_a_mirror_without_the_file(mirror):
    with pytest.raises(DownloadFailed, match=r"^127\.0\.0\.1:\d+: HTTP Error 404: Not Found$"):
        _download(mirror.url)


def test_every_mirror_has_its_reason(mirror, closed):
    with pytest.raises(DownloadFailed, match=r"Connection refused; 127\.0\.0\.1:\d+: HTTP Error 404"):
        _download(closed, mirror.url)


def test_a_silent_mirror_is_given_up_in_time(monkeypatch, silent):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "DOWNLOAD_TIMEOUT_SECONDS", 0.2)
    with pytest.raises(DownloadFailed, match=r"no answer within 0\.2 s|timed out"):
        _download(silent)


def test_finding_the_address_counts_too(monkeypatch):
    """The system's resolver does not know our timeout, so the download does not wait for it."""
    resolved = threading.Event()
    monkeypatch.setattr(module, "DOWNLOAD_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setattr(module, "urlopen", lambda url, timeout: resolved.wait())
    with pytest.raises(DownloadFailed, match=r"^example\.org: no answer within 0\.05 s$"):
        _download("http://example.org/")
    resolved.set()


def test_a_malformed_proxy_is_a_reason_as_well(monkeypatch):
    monkeypatch.setattr("urllib.request._opener", None)  # urlopen reads the environment once
    monkeypatch.setenv("http_proxy", "http:/no-authority")
    monkeypatch.setenv("no_proxy", "")
    with pytest.raises(DownloadFailed, match=r"^example\.org: proxy URL with no authority"):
        _download("http://example.org/")
