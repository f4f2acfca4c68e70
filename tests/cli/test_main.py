"""How the command ends where it is interrupted while it starts, or has no working folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BLOCKED = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a shell put aside
import sharpbench.cli.main
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Blocked())
sys.argv = ["sharpbench", "list", "models"]
sharpbench.cli.main.main()
"""


def test_an_interrupt_of_the_imports_is_one_line(tmp_path: Path) -> None:
    """The first, of the library of the command line, and a later one."""
    for module in ("typer", "rich.padding"):
        code = BLOCKED.format(module=module)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")


IGNORED = """
import os, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
import sharpbench.cli.app
from sharpbench.cli.main import main
class Told:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
def app(**options):
    Told()
    print("goes on")
    time.sleep(60)
sharpbench.cli.app.root_command = lambda: app
main()
"""


def test_an_interrupt_in_a_destructor_is_not_lost() -> None:
    """Python prints and forgets the exception there, and the command would go on."""
    done = subprocess.run([sys.executable, "-c", IGNORED], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "goes on\n", "interrupted\n")


def test_a_working_folder_that_was_removed_is_one_line(tmp_path: Path) -> None:
    code = "import os, sys; from sharpbench.cli.main import main; os.rmdir(os.getcwd()); main()"
    gone = tmp_path / "gone"
    gone.mkdir()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=gone, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: the working folder was removed; change into another one\n"
