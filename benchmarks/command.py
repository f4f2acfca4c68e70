"""Seconds of the command, each in its own process, started by asv's interpreter."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path


class Command:
    """Commands that should take less than a second; setup fills the catalogue that `list` reads."""

    version = "1"

    def setup(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.command = Path(sys.executable).with_name("sharpbench")
        if not self.command.exists():
            raise NotImplementedError(f"no command at {self.command}")
        self.time_list()

    def teardown(self) -> None:
        self.folder.cleanup()

    def time_import(self) -> None:
        subprocess.run([sys.executable, "-c", "import sharpbench"], check=True)

    def time_help(self) -> None:
        subprocess.run([self.command, "--help"], check=True, stdout=subprocess.DEVNULL)

    def time_list(self) -> None:
        subprocess.run([self.command, "list", "--cache-dir", self.folder.name], check=True, stdout=subprocess.DEVNULL)
