"""A watched child process: start it, send it work, receive its answers within a time limit, and say why it ended."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import multiprocessing
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, resource_tracker, util
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext, ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Literal

from sharpbench.child_output import READ_BYTES, CapturedOutput, Frame, UnreadableMessage
from sharpbench.errors import InvalidInput, shorten

StartMethod = Literal["forkserver", "spawn", "fork"]
END_TIMEOUT_SECONDS = 5.0
"""Time that a child has to end after it was killed, or after its end of the pipe was closed."""
MAX_STARTS = 5
"""Attempts to start a child, where the server process that starts children is killed meanwhile."""
RESTART_PAUSE_SECONDS = 0.2
"""Time between them, in which the system removes the killed server."""
MAX_SOCKET_FOLDER_BYTES = 70
"""Longest folder of temporary files in which sockets are made: Linux allows 107 bytes for a socket's path, macOS 103,
and multiprocessing adds '/pymp-XXXXXXXX/listener-XXXXXXXX'."""
SOCKET_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # multiprocessing makes its own folder in the chosen one
_CONTEXTS: Mapping[StartMethod, ForkServerContext | SpawnContext | ForkContext] = {
    "forkserver": multiprocessing.get_context("forkserver"),
    "spawn": multiprocessing.get_context("spawn"),
    "fork": multiprocessing.get_context("fork"),
}
KILLING_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
"""Signals that come from outside: from the system where memory runs out, from a batch system, or by hand."""
PR_SET_PDEATHSIG = 1  # Linux's option of prctl(2): the signal that a process gets when its parent dies


class ChildEnded(Exception):
    """A child that ended before it answered.

    Attributes:
        status: its exit status as multiprocessing reports it, negative for a signal; None for a child that closed its
            end of the pipe and still runs.
    """

    def __init__(self, status: int | None) -> None:
        super().__init__("the process closed its connection" if status is None else f"the process {exit_words(status)}")
        self.status = status


class ChildProcess:
    """A child process with a pipe to it, started at once.

    It runs `serve(connection, *arguments)`, or `serve(connection, output, *arguments)` with `captures_output`, where
    `output` is a pipe for what it prints. All of them must be picklable, except with the method `fork`, by which the
    child is a copy of this process. Such a child does not see the end of its pipe: `close` kills it.
    """

    def __init__(
        self,
        serve: Callable[..., object],
        *arguments: object,
        method: StartMethod = "forkserver",
        captures_output: bool = False,
    ) -> None:
        started = _start_process(serve, arguments, method, captures_output=captures_output)
        self._process, self._connection, self._output = started
        if self._output is not None:
            os.set_blocking(self._output.fileno(), False)
        self.printed = CapturedOutput()
        self._frame = Frame()

    @property
    def pid(self) -> int | None:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.is_alive()

    @property
    def resident_bytes(self) -> int | None:
        """The memory that the process holds; None where the system does not tell."""
        return None if self._process.pid is None else resident_bytes(self._process.pid)

    @property
    def signs_of_life(self) -> list[Connection | int]:
        """What `multiprocessing.connection.wait` waits for: a message, or the end of the process."""
        return [self._connection, self._process.sentinel]

    @property
    def output(self) -> list[Connection]:
        """What `multiprocessing.connection.wait` waits for: prints, as long as some may come."""
        return [self._output] if self._output is not None and not self._output.closed and self.is_alive else []

    def send(self, message: object) -> None:
        """Send a message, pickled. Raises whatever pickle raises; a child that died is found by `receive`."""
        self.send_bytes(pickle.dumps(message))

    def send_bytes(self, message: bytes) -> None:
        """Send bytes; a child that died is found by `receive_bytes`."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._connection.send_bytes(message)

    def receive(self, timeout: float | None = None) -> Any:
        """The next message, unpickled; see `receive_bytes`."""
        message = self.receive_bytes(timeout)
        try:
            return pickle.loads(message)  # of our own child
        except Exception as error:  # whatever unpickling raises for bytes that pickle did not write
            raise UnreadableMessage("the process sent bytes that are not a message") from error

    def receive_bytes(self, timeout: float | None = None) -> bytes:
        """The next message.

        Args:
            timeout: seconds to wait; None waits for as long as the child lives.

        Raises:
            ChildEnded: where the child ended, or closed its end of the pipe, and sent nothing more.
            TimeoutError: where no whole message came in time.
            UnreadableMessage: where something else came.
        """
        until = None if timeout is None else time.monotonic() + timeout
        while True:
            wait(self.signs_of_life, None if until is None else max(0.0, until - time.monotonic()))
            alive = self.is_alive  # before the look into the pipe: a message that was sent before the end is not lost
            try:
                while self._connection.poll():
                    if (message := self._frame.read(self._connection.fileno())) is not None:
                        return message
            except (EOFError, ConnectionResetError):
                self._process.join(END_TIMEOUT_SECONDS)
                raise ChildEnded(self._process.exitcode) from None
            if not alive:  # without the end of the pipe, which a child of the child may hold
                raise ChildEnded(self._process.exitcode)
            if until is not None and time.monotonic() >= until:
                raise TimeoutError

    def read_output(self) -> None:
        """Add to `printed` what the child has printed since the last call."""
        with contextlib.suppress(BlockingIOError, OSError):
            while self._output is not None and (some := os.read(self._output.fileno(), READ_BYTES)):
                self.printed.add(some)

    def terminate(self) -> None:
        """Ask the process to end, by SIGTERM."""
        self._process.terminate()

    def hang_up(self) -> None:
        """Close the pipe, at which a child that waits for work ends by itself."""
        self._connection.close()

    def close(self, *, grace_seconds: float = 0.0) -> None:
        """Close the pipe, and kill the process unless it ends by itself within the grace period."""
        self.hang_up()
        if grace_seconds:
            self._process.join(grace_seconds)
        if self._process.is_alive():
            self._process.kill()
        self._process.join(END_TIMEOUT_SECONDS)
        if self._output is not None:
            self._output.close()


def _start_process(
    serve: Callable[..., object], arguments: Sequence[object], method: StartMethod, *, captures_output: bool
) -> tuple[BaseProcess, Connection, Connection | None]:
    """A child, with the parent's ends of the pipe to it and, where it is captured, of what it prints."""
    failures = 0
    while True:
        ours, theirs = multiprocessing.Pipe()
        output, write = multiprocessing.Pipe(duplex=False) if captures_output else (None, None)
        handed = [theirs] if write is None else [theirs, write]
        process = _CONTEXTS[method].Process(target=serve, args=(*handed, *arguments), daemon=True)
        try:
            if method == "forkserver":
                start_server()
                process.start()  # waits for the server's imports, in which this process answers Ctrl-C
            else:
                with interrupts_blocked(), warnings.catch_warnings():
                    # of a fork while other threads run: the copy has none of them and must not wait for their locks
                    warnings.simplefilter("ignore", DeprecationWarning)
                    process.start()
            return process, ours, output
        except (EOFError, ConnectionError):  # the server was killed meanwhile, by a measure or by the system
            for end in (ours, output) if output is not None else (ours,):
                end.close()  # so that a child that it had begun ends by itself
            failures += 1
            if failures == MAX_STARTS:
                raise InvalidInput(
                    f"the server process that starts workers was killed {MAX_STARTS} times; free memory"
                ) from None
            time.sleep(RESTART_PAUSE_SECONDS)
        finally:
            for end in handed:
                end.close()


def exit_words(status: int | None) -> str:
    """How a process ended, in words, from its exit status as multiprocessing reports it.

    >>> exit_words(-9), exit_words(3)
    ('ended by SIGKILL', 'ended with status 3')
    """
    if status is None or status >= 0:
        return f"ended with status {status}"
    try:
        return f"ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"ended by signal {-status}"


def was_killed(status: int | None) -> bool:
    """Whether a process with that exit status was ended from outside, and not by what it did.

    >>> was_killed(-signal.SIGTERM), was_killed(-signal.SIGSEGV), was_killed(1)
    (True, False, False)
    """
    return status is not None and -status in KILLING_SIGNALS


def resident_bytes(process: int | Literal["self"] = "self") -> int | None:
    """The memory that a process, by default this one, holds; None where the system does not tell."""
    try:
        pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return None


def preload_modules(modules: Sequence[str]) -> None:
    """Have the server process, which starts the children, import `modules`, so that every child has them at once.

    Of no effect once the server runs. Modules that cannot be imported are left out.
    """
    _CONTEXTS["forkserver"].set_forkserver_preload(list(modules))


def start_server() -> None:
    """Start the server process before the first child. Raises InvalidInput where no folder is fit for its socket."""
    _choose_socket_folder()
    with interrupts_blocked():
        forkserver.ensure_running()


def _choose_socket_folder() -> None:
    """Have multiprocessing keep its sockets in a folder with a short path, where $TMPDIR is too long for them."""
    if len(os.fsencode(tempfile.gettempdir())) <= MAX_SOCKET_FOLDER_BYTES:
        return
    chosen = next((each for each in SOCKET_FOLDERS if os.access(each, os.W_OK | os.X_OK)), None)
    if chosen is None:
        raise InvalidInput(
            f"TMPDIR '{shorten(tempfile.gettempdir())}' is longer than the {MAX_SOCKET_FOLDER_BYTES} bytes that the "
            f"path of a socket may have, and {' and '.join(SOCKET_FOLDERS)} cannot be written; set TMPDIR to a "
            "shorter path"
        )
    kept, tempfile.tempdir = tempfile.tempdir, chosen
    try:
        util.get_temp_dir()  # multiprocessing makes its folder at the first call, and keeps to it
    finally:
        tempfile.tempdir = kept


@contextlib.contextmanager
def interrupts_blocked() -> Iterator[None]:
    """Start processes that never see Ctrl-C, not even while they import; it reaches this process after the block.

    The terminal sends Ctrl-C to all its processes, and only the parent answers it.
    """
    resource_tracker.ensure_running()  # its start would end the block
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def prepare_child(output: int) -> None:
    """Set this process up as a child: it prints into the file `output`, ignores Ctrl-C, and ends with its parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    end_with_parent()
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)
    faulthandler.enable(sys.stderr)
    # locks that libraries make are then unlinked at once, and none is left behind where this process is killed
    multiprocessing.set_start_method("fork", force=True)


def end_with_parent() -> None:
    """Have the system, where it can, kill this process when its parent dies, however the parent dies."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    with contextlib.suppress(OSError):  # where memory runs out, the system takes this process and not its parent
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
