"""A small MNIST of the same make, and a mirror of it on this machine."""

import gzip
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch

from sharpbench.datasets import mnist
from sharpbench.datasets.mnist import MnistFile, idx_header

TRAIN, TEST = 30, 20


def _content(index: int, sizes: tuple[int, ...]) -> bytes:
    generator = torch.Generator().manual_seed(index)
    values = torch.randint(256 if len(sizes) == 3 else 10, sizes, generator=generator, dtype=torch.uint8)
    return idx_header(sizes) + values.numpy().tobytes()


@pytest.fixture
def small_mnist(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Makes `mnist` mean 30 + 20 random images; gives the content of its four files by name."""
    names = [file.name for file in mnist.FILES]
    sizes = [(TRAIN, 28, 28), (TRAIN,), (TEST, 28, 28), (TEST,)]
    contents = [_content(index, each) for index, each in enumerate(sizes)]
    files = tuple(
        MnistFile(
            name=name,
            sizes=size,
            sha256=hashlib.sha256(content).hexdigest(),
            gzip_bytes=len(packed := gzip.compress(content, mtime=0)),
            gzip_sha256=hashlib.sha256(packed).hexdigest(),
        )
        for name, size, content in zip(names, sizes, contents, strict=True)
    )
    monkeypatch.setattr(mnist, "FILES", files)
    return dict(zip(names, contents, strict=True))


@dataclass
class Mirror:
    """A server on this machine. `answers`: by file name, what it sends; `asked`: the requested names."""

    answers: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    promised: Callable[[bytes], int] = len
    url: str = ""

    def offer(self, folder: dict[str, bytes]) -> None:
        self.answers = {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in folder.items()}


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror that has nothing yet, and the only one that `mnist` knows."""
    served = Mirror()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            name = Path(self.path).name
            served.asked.append(name)
            body = served.answers.get(name)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(served.promised(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/mnist/"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(mnist, "MIRRORS", (served.url,))
    yield served
    server.shutdown()
    thread.join()
    server.server_close()
