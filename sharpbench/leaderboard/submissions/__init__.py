"""Submissions: the records of one run as one file for a pull request, and what recomputing some of them found.

A file is read without executing anything of it; what its records name becomes objects through the registry alone, and
only where it is recomputed.
"""

from sharpbench.leaderboard.submissions.manifest import SUFFIX, Manifest
from sharpbench.leaderboard.submissions.networks import Setting
from sharpbench.leaderboard.submissions.pack import packed
from sharpbench.leaderboard.submissions.sampling import Drawn, Installed, draw, installed, named
from sharpbench.leaderboard.submissions.status import Past, Refutation, Standing, doubted, past, standing
from sharpbench.leaderboard.submissions.submission import Submission, read, written
from sharpbench.leaderboard.submissions.verdict import (
    VERDICTS,
    Finding,
    Verdict,
    append,
    read_verdicts,
    verdicts_in,
    verdicts_path,
)
from sharpbench.leaderboard.submissions.verify import verify

__all__ = [
    "SUFFIX",
    "VERDICTS",
    "Drawn",
    "Finding",
    "Installed",
    "Manifest",
    "Past",
    "Refutation",
    "Setting",
    "Standing",
    "Submission",
    "Verdict",
    "append",
    "doubted",
    "draw",
    "installed",
    "named",
    "packed",
    "past",
    "read",
    "read_verdicts",
    "standing",
    "verdicts_in",
    "verdicts_path",
    "verify",
    "written",
]
