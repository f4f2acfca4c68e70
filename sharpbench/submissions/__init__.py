"""Submissions: the records of one run as one file for a pull request, and what recomputing some of them found.

A file is read without executing anything of it; what its records name becomes objects through the registry alone, and
only where it is recomputed.
"""

from sharpbench.submissions.cells import Installed, installed
from sharpbench.submissions.manifest import SUFFIX, Manifest
from sharpbench.submissions.networks import Setting
from sharpbench.submissions.packing import packed
from sharpbench.submissions.recomputation import verify
from sharpbench.submissions.sampling import Drawn, draw, named
from sharpbench.submissions.standing import Refutation, Standing, standing
from sharpbench.submissions.submission import Submission, read, written
from sharpbench.submissions.verdict import VERDICTS, Finding, Verdict, append, read_verdicts, verdicts_path

__all__ = [
    "SUFFIX",
    "VERDICTS",
    "Drawn",
    "Finding",
    "Installed",
    "Manifest",
    "Refutation",
    "Setting",
    "Standing",
    "Submission",
    "Verdict",
    "append",
    "draw",
    "installed",
    "named",
    "packed",
    "read",
    "read_verdicts",
    "standing",
    "verdicts_path",
    "verify",
    "written",
]
