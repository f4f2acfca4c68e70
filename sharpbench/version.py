"""The version, in one place: the build reads this file, and `--version` imports nothing else."""

__version__ = "0.1.0"
