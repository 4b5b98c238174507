"""The pages of many patients, over processes where that pays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

from clinimm.core.errors import DataError, InputRejected, ModelError
from clinimm.core.record import write_text
from clinimm.parallel import cores, run_jobs
from clinimm.progress import Progress
from clinimm.report.facts import RunFacts
from clinimm.report.nearest import kept_cases
from clinimm.report.patient_report import patient_page
from clinimm.workspace import Workspace

#: Pages a job: what a run's pages share is read once a job.
_PAGES_A_JOB = 10
#: Fewer pages are written sooner than another process has started.
_WORTH_PROCESSES = 30


@dataclass(frozen=True)
class Written:
    """What became of one page.

    Attributes:
        subject_id: whose.
        reason: why it could not be written; None where it was.
    """

    subject_id: str
    reason: str | None = None


def write_pages(
    workspace: Workspace, subjects: Sequence[str], progress: Progress, processes: int | None = None
) -> list[Written]:
    """Write ``report/patients/SUBJECT.html`` for each of some subjects; the same bytes in any number.

    One bad subject stops nobody else's page (law 7).

    Args:
        workspace: the run.
        subjects: whose pages.
        progress: says how far it is.
        processes: how many to write in; None is as many as there are cores, for many pages.

    Returns:
        The subjects in their order, each with the reason where its page could not be written.
    """
    if processes is None:
        processes = cores() if len(subjects) >= _WORTH_PROCESSES else 1
    size = _PAGES_A_JOB if processes > 1 else max(1, len(subjects))
    jobs = [list(subjects[start : start + size]) for start in range(0, len(subjects), size)]
    if processes > 1:
        written: Iterator[Written] = chain.from_iterable(
            run_jobs(partial(_listed, workspace), jobs, processes)
        )
    else:
        written = chain.from_iterable(_written(workspace, job) for job in jobs)
    return list(progress.track(written, "patient pages", len(subjects)))


def _listed(workspace: Workspace, subjects: Sequence[str]) -> list[Written]:
    return list(_written(workspace, subjects))


def _written(workspace: Workspace, subjects: Sequence[str]) -> Iterator[Written]:
    facts = RunFacts(workspace)
    for subject in subjects:
        path = workspace.root / "report" / "patients" / f"{subject}.html"
        try:
            page = patient_page(facts, subject, nearest=kept_cases(facts))
        except (DataError, InputRejected, ModelError) as error:
            path.unlink(missing_ok=True)  # an older page is of another answer
            yield Written(subject, str(error))
            continue
        write_text(path, page)
        yield Written(subject)
