"""Is the feedback what people said? The table against the access log, which names every row's digest."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clinimm.core.check_log import read_lines
from clinimm.serve.access_log import LOG_NAME
from clinimm.serve.feedback import FeedbackTable

#: Actions that put a row into the table begin with this.
_GIVEN = "give-"


@dataclass(frozen=True)
class FeedbackState:
    """What was found.

    Attributes:
        changed: numbers of the rows that are not as they were written.
        unknown: numbers of the rows that no line of the log names.
        missing: numbers of the log's lines whose row is not there: it was removed, or the server
            ended between the two.
    """

    changed: tuple[int, ...]
    unknown: tuple[int, ...]
    missing: tuple[int, ...]

    @property
    def trusted(self) -> bool:
        """Whether every row that is there was given, as it stands."""
        return not self.changed and not self.unknown

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, one sentence each."""
        found = (
            ("Changed after they were written: rows", self.changed),
            ("Never given here, says the access log: rows", self.unknown),
            ("Not there any more: the rows of the access log's lines", self.missing),
        )
        return tuple(f"{words} {', '.join(map(str, numbers))}." for words, numbers in found if numbers)


def check_feedback(folder: Path) -> FeedbackState:
    """Compare table and log in one folder; whether the log itself is whole says ``verify_log``."""
    table = FeedbackTable(folder)
    with table.held():  # so that nothing is said between the two
        digests = table.digests()
        said = dict(_said(folder / LOG_NAME)) if (folder / LOG_NAME).is_file() else {}
    there = {now for now, _ in digests.values()}
    return FeedbackState(
        changed=tuple(number for number, (now, then) in digests.items() if now != then),
        unknown=tuple(number for number, (now, then) in digests.items() if now == then and now not in said),
        missing=tuple(number for digest, number in said.items() if digest not in there),
    )


def _said(path: Path) -> list[tuple[str, int]]:
    found = []
    for line, _ in read_lines(path):
        detail = line.get("detail")
        if str(line.get("action")).startswith(_GIVEN) and line.get("outcome") == "done":
            digest = detail.get("row") if isinstance(detail, dict) else None
            found.append((str(digest), int(line.get("number") or 0)))
    return found
