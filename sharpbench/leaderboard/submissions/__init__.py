"""Submissions, which are the records of a run as one file for a pull request, and verdicts on recomputed samples.

Reading a file executes nothing of it. The names in its records become objects through the registry only, and only where
a cell is recomputed.
"""

from sharpbench.leaderboard.submissions.manifest import SUFFIX, Manifest
from sharpbench.leaderboard.submissions.networks import VerificationSetting
from sharpbench.leaderboard.submissions.pack import pack_submission
from sharpbench.leaderboard.submissions.sampling import (
    CellSample,
    InstalledParts,
    draw_cells,
    find_installed,
    select_cells,
)
from sharpbench.leaderboard.submissions.status import (
    PastRefutation,
    Refutation,
    SubmissionStatus,
    list_past_refutations,
    refuted_places,
    submission_status,
)
from sharpbench.leaderboard.submissions.submission import Submission, format_submission, read_submission
from sharpbench.leaderboard.submissions.verdict import (
    VERDICTS_SUFFIX,
    Finding,
    Verdict,
    append_verdict,
    read_folder_verdicts,
    read_verdicts,
    recorded_findings,
    verdicts_path,
)
from sharpbench.leaderboard.submissions.verify import Compared, verify_submission
from sharpbench.leaderboard.submissions.watched import verify_with_limits

__all__ = [
    "SUFFIX",
    "VERDICTS_SUFFIX",
    "CellSample",
    "Compared",
    "Finding",
    "InstalledParts",
    "Manifest",
    "PastRefutation",
    "Refutation",
    "Submission",
    "SubmissionStatus",
    "Verdict",
    "VerificationSetting",
    "append_verdict",
    "draw_cells",
    "find_installed",
    "format_submission",
    "list_past_refutations",
    "pack_submission",
    "read_folder_verdicts",
    "read_submission",
    "read_verdicts",
    "recorded_findings",
    "refuted_places",
    "select_cells",
    "submission_status",
    "verdicts_path",
    "verify_submission",
    "verify_with_limits",
]
