"""Own impression first: what a clinician may not see before having said what they think.

Among 2,760 decisions of 92 radiologists, explanations hardly kept anybody from following wrong
advice; to commit oneself first does more. The server decides, so nothing that is hidden is sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus

from clinimm.serve.catalogue import ServedRun
from clinimm.serve.errors import Refused
from clinimm.serve.feedback import Feedback
from clinimm.serve.identity import Role, User


def hidden_subjects(user: User, run: ServedRun, feedback: Iterable[Feedback], first: bool) -> frozenset[str]:
    """The subjects of a run whose answer this person must not see yet.

    An impression counts for the answer of one model: another model's answer hides again.

    Args:
        user: who asks.
        run: whose answers.
        feedback: the rows of the run's feedback.
        first: whether clinicians record an impression first.
    """
    if not first or not user.has(Role.CLINICIAN):
        return frozenset()
    given = {
        (row.subject_id, row.model_digest)
        for row in feedback
        if row.kind == "impression" and row.user == user.identifier
    }
    pairs = zip(run.answers["subject_id"].astype(str), run.answers["model_digest"].astype(str), strict=True)
    return frozenset(subject for subject, digest in pairs if (subject, digest) not in given)


def impression_needed() -> Refused:
    """What somebody hears who asks too early."""
    return Refused(
        HTTPStatus.FORBIDDEN,
        "impression-needed",
        "Record your own impression of this patient first; then the model's answer is shown.",
    )
