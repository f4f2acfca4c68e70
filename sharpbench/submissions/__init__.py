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
from sharpbench.submissions.standing import Past, Refutation, Standing, doubted, past, standing
from sharpbench.submissions.submission import Submission, read, written
from sharpbench.submissions.verdict import VERDICTS, Finding, Verdict, append, read_verdicts, verdicts_in, verdicts_path

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
