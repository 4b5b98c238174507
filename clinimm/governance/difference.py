"""Two runs and the plan: inside the envelope or not, and whether the new one is accepted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clinimm.governance.change import Change, ChangeControl, changes
from clinimm.governance.run_settings import audit_of, settings_of

EXIT_INSIDE, EXIT_OUTSIDE, EXIT_NOT_ACCEPTED, EXIT_BAD_INPUT = 0, 1, 2, 3


@dataclass(frozen=True)
class Difference:
    """What changed between an approved run and a new one.

    Attributes:
        changes: every setting that differs.
        acceptance: what the new run's own audit says, in a sentence.
        accepted: whether that audit ended with 0 under the same policy.
    """

    changes: tuple[Change, ...]
    acceptance: str
    accepted: bool

    @property
    def inside(self) -> bool:
        """Whether the plan allows every change."""
        return all(change.inside for change in self.changes)

    @property
    def exit_status(self) -> int:
        """0 inside and accepted, 1 outside, 2 inside and not accepted."""
        if not self.inside:
            return EXIT_OUTSIDE
        return EXIT_INSIDE if self.accepted else EXIT_NOT_ACCEPTED

    def lines(self) -> list[str]:
        """For a terminal: one line a change, what follows last."""
        found = [
            f"{'inside' if one.inside else 'OUTSIDE':<8} {one.key}: {one.before} -> {one.after} "
            f"({one.modification or one.reason})"
            for one in self.changes
        ]
        outside = sum(not change.inside for change in self.changes)
        if outside:
            found.append(
                f"Outside the envelope: {outside} of {len(self.changes)} changes need a decision, hazards "
                "weighed again, and a new approval of the intended use."
            )
        else:
            found.append(f"Inside the envelope: {len(self.changes) or 'no'} changes. {self.acceptance}")
        return found


def difference(approved: Path, new: Path, plan: ChangeControl) -> Difference:
    """Compare two runs' folders.

    Raises:
        ConfigError: one of them is no run.
    """
    found = changes(settings_of(approved), settings_of(new), plan)
    audit = audit_of(new)
    if audit is None:
        return Difference(tuple(found), "Not accepted: the new run has no audit.", False)
    accepted = audit.get("exit_status") == 0
    text = (
        "Its own audit lets it pass; a reviewer signs"
        if accepted
        else "Not accepted: its own audit blocks it"
    )
    return Difference(tuple(found), f"{text}: {audit.get('sentence', '')}", accepted)
