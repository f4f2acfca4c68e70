"""A child process: its messages, its prints, its time limits, and the ways in which it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from sharpbench import processes
from sharpbench.child_output import MAX_OUTPUT_BYTES, READ_BYTES, CapturedOutput, UnreadableMessage
from sharpbench.errors import InvalidInput
from sharpbench.processes import ChildEnded, ChildProcess, exit_words, prepare_child, resident_bytes, start_server

Start = Callable[..., ChildProcess]
PATIENCE_SECONDS = 120


def serve(connection: Connection, name: str) -> None:
    """Do what each message says."""
    while True:
        try:
            match connection.recv():
                case "name":
                    connection.send(name)
                case "last word":
                    connection.send("bye")
                    os._exit(0)
                case bytes(sent):
                    os.write(connection.fileno(), sent)
                case "exit":
                    os._exit(7)
                case "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                case "hang up":
                    connection.close()
                    time.sleep(PATIENCE_SECONDS)
                case "leave a child":
                    if os.fork() == 0:  # it keeps the pipe open
                        time.sleep(PATIENCE_SECONDS)
                    os._exit(5)
        except EOFError:
            return


def serve_printing(connection: Connection, output: Connection) -> None:
    prepare_child(output.fileno())
    print("some words", flush=True)
    connection.send("printed")
    serve(connection, "")


@pytest.fixture(scope="module", autouse=True)
def bare_server() -> Iterator[forkserver.ForkServer]:
    """A server of these tests alone.

    That of this process imports what workers need, if it is started by tests that have some: it takes seconds, and
    without it each worker would.
    """
    server = forkserver.ForkServer()
    server.set_forkserver_preload([__name__])
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ensure_running", "get_inherited_fds", "connect_to_new_process", "set_forkserver_preload"):
            patch.setattr(forkserver, name, getattr(server, name))
        yield server
    if server._forkserver_pid is not None:  # type: ignore[attr-defined]
        os.kill(server._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
        server._stop()  # type: ignore[attr-defined]


@pytest.fixture
def start() -> Iterator[Start]:
    children: list[ChildProcess] = []

    def started(*arguments: object, **options: object) -> ChildProcess:
        children.append(ChildProcess(*arguments, **options))  # type: ignore[arg-type]
        return children[-1]

    yield started
    for child in children:
        child.close()
        assert not child.is_alive


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_a_child_answers_one_message_after_the_other(start: Start, method: str) -> None:
    child = start(serve, "Ada", method=method)
    for _ in range(2):
        child.send("name")
        assert child.receive(PATIENCE_SECONDS) == "Ada"
    assert (child.resident_bytes or 1) > 0
    child.close(grace_seconds=PATIENCE_SECONDS)
    assert child._process.exitcode == 0  # it ended by itself


def test_silence_is_a_timeout_and_the_child_lives_on(start: Start) -> None:
    child = start(serve, "Ada")
    with pytest.raises(TimeoutError):
        child.receive(timeout=0)
    child.send("name")
    assert child.receive() == "Ada"


@pytest.mark.parametrize(("message", "status"), [("exit", 7), ("die", -9), ("leave a child", 5)])
def test_the_end_of_a_child_is_told_with_its_status(start: Start, message: str, status: int) -> None:
    child = start(serve, "")
    child.send(message)
    with pytest.raises(ChildEnded, match=f"the process {exit_words(status)}") as caught:
        child.receive(PATIENCE_SECONDS)
    assert caught.value.status == status
    child.send("name")  # no error: the end is found by the next `receive`
    with pytest.raises(ChildEnded):
        child.receive(PATIENCE_SECONDS)


def test_the_last_message_of_a_child_is_not_lost(start: Start) -> None:
    child = start(serve, "")
    child.send("last word")
    child._process.join(PATIENCE_SECONDS)
    assert child.receive(timeout=0) == "bye"
    with pytest.raises(ChildEnded, match="ended with status 0"):
        child.receive(timeout=0)


def test_a_child_that_closes_its_pipe_and_lives_is_told_apart(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sharpbench.processes.END_TIMEOUT_SECONDS", 0.1)
    child = start(serve, "")
    child.send("hang up")
    with pytest.raises(ChildEnded, match="closed its connection") as caught:
        child.receive(PATIENCE_SECONDS)
    assert caught.value.status is None
    monkeypatch.undo()


@pytest.mark.parametrize(
    "sent", [b"\x00\x00\x00\x05hello", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x01", b"\x00\x00\x00\x03\x80\x04."]
)
def test_bytes_that_are_not_a_message_are_told_at_once(start: Start, sent: bytes) -> None:
    """Also a size of 2 GiB without anything behind it: nobody waits for that."""
    child = start(serve, "")
    child.send(sent)
    with pytest.raises(UnreadableMessage, match="sent bytes that are not a message"):
        child.receive(PATIENCE_SECONDS)


def test_a_long_message_arrives_whole(start: Start) -> None:
    child = start(serve, "x" * (READ_BYTES * 5))
    child.send("name")
    assert child.receive(PATIENCE_SECONDS) == "x" * (READ_BYTES * 5)


def test_what_a_child_prints_is_kept(start: Start) -> None:
    child = start(serve_printing, captures_output=True)
    assert child.receive(PATIENCE_SECONDS) == "printed"
    child.read_output()
    assert child.printed.text() == "some words\n"
    assert child.output
    child.close()
    assert child.output == []


def test_what_cannot_be_pickled_is_raised_at_once(start: Start) -> None:
    child = start(serve, "Ada")
    with pytest.raises(Exception, match="pickle"):
        child.send(lambda: None)
    child.send("name")
    assert child.receive(PATIENCE_SECONDS) == "Ada"


def test_an_end_is_put_into_words() -> None:
    words = [exit_words(status) for status in (0, 3, None, -9, -64, -63)]
    assert words == [
        *("ended with status 0", "ended with status 3", "ended with status None"),
        *("ended by SIGKILL", "ended by SIGRTMAX", "ended by signal 63"),
    ]


def test_the_memory_of_a_process_that_is_gone_is_not_known() -> None:
    assert resident_bytes(2**22 + 1) is None


def test_both_ends_of_what_is_printed_are_kept() -> None:
    printed = CapturedOutput()
    assert printed.text() is None
    for number in range(10_000):
        printed.add(f"{number}\n".encode())
    text = str(printed.text())
    assert text.startswith("0\n1\n2\n")
    assert text.endswith("9998\n9999\n")
    left_out = int(text.partition("[")[2].partition(" ")[0])
    assert left_out == sum(len(f"{number}\n") for number in range(10_000)) - 2 * MAX_OUTPUT_BYTES
    short = CapturedOutput()
    short.add("é\x00\xff\n".encode("latin-1"))
    assert short.text() == "\ufffd\ufffd\ufffd\n"


LONG_FOLDER = """
import os, pathlib, signal, sys, tempfile
from sharpbench import processes

def serve(connection):
    connection.send(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))

if __name__ == "__main__":
    folder = pathlib.Path(sys.argv[1]) / ("a" * 90)
    folder.mkdir()
    os.environ["TMPDIR"] = str(folder)
    child = processes.ChildProcess(serve)
    print(child.receive(timeout=100), tempfile.gettempdir() == str(folder), list(folder.iterdir()))
    print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    child.close()
"""


def test_children_start_where_tmpdir_is_too_long_for_sockets_and_never_see_ctrl_c(tmp_path: Path) -> None:
    """In a new process, as the server of children is started once."""
    script = tmp_path / "script.py"
    script.write_text(LONG_FOLDER, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (done.stdout, done.stderr) == ("True True []\nFalse\n", "")


def test_a_tmpdir_that_nothing_replaces_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/" + "a" * 90)
    monkeypatch.setattr("sharpbench.processes.SOCKET_FOLDERS", ("/no/such/folder",))
    with pytest.raises(InvalidInput, match=r"TMPDIR '/aaa.* is longer than the 70 bytes .* set TMPDIR"):
        processes.start_server()


def test_a_server_that_was_killed_is_started_again(
    start: Start, bare_server: forkserver.ForkServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A measure may kill the server of all workers while the next worker starts; the run ended in an EOFError."""
    start_server()
    before = bare_server._forkserver_pid  # type: ignore[attr-defined]

    def die_at_once() -> None:
        start_server()
        monkeypatch.setattr(processes, "start_server", start_server)
        os.kill(before, signal.SIGKILL)

    monkeypatch.setattr(processes, "start_server", die_at_once)
    child = start(serve, "Ada")
    child.send("name")
    assert child.receive(PATIENCE_SECONDS) == "Ada"
    assert bare_server._forkserver_pid != before  # type: ignore[attr-defined]


@pytest.mark.parametrize("error", [EOFError, ConnectionRefusedError, BrokenPipeError])
def test_a_server_that_is_killed_each_time_is_refused(error: type[Exception], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(processes, "start_server", fail)
    monkeypatch.setattr(processes, "RESTART_PAUSE_SECONDS", 0.0)
    with pytest.raises(InvalidInput, match="server process that starts workers was killed 5 times; free memory"):
        ChildProcess(serve, "never")
