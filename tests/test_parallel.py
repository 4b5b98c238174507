"""Jobs over processes."""

from __future__ import annotations

import os

import pytest

from clinimm.parallel import run_jobs


def _threads(job: int) -> tuple[int, int, str | None]:
    return job, os.getpid(), os.environ.get("OMP_NUM_THREADS")


def _fails(job: int) -> int:
    if job == 1:
        raise ValueError("job 1")
    return job


def test_jobs_come_in_order_from_children_that_count_one_core_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    found = list(run_jobs(_threads, range(4), 2))
    assert [job for job, *_ in found] == [0, 1, 2, 3]
    assert os.getpid() not in {process for _, process, _ in found}
    assert {threads for *_, threads in found} == {"1"}
    assert "OMP_NUM_THREADS" not in os.environ


def test_what_somebody_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert {threads for *_, threads in run_jobs(_threads, range(2), 2)} == {"3"}


def test_one_process_is_this_one() -> None:
    assert {process for _, process, _ in run_jobs(_threads, range(3), 1)} == {os.getpid()}


@pytest.mark.parametrize("processes", [1, 2])
def test_a_job_that_fails_ends_the_rest_with_its_error(processes: int) -> None:
    with pytest.raises(ValueError, match="job 1"):
        list(run_jobs(_fails, range(3), processes))
