"""Resources that were changed or taken back: since when what they say was known (decision 0010)."""

from __future__ import annotations

from clinimm.modalities.ehr.collect import Collector, Head, Resource
from clinimm.modalities.ehr.fhir_time import Moment

#: Statuses of what was changed after it had been final.
REVISED = frozenset(("corrected", "amended", "appended"))
#: Statuses and verification statuses of what was held for true until somebody took it back.
TAKEN_BACK = frozenset(("entered-in-error", "refuted"))
#: Before every other version of its object.
_FIRST_US = 0


def revised_at(
    collector: Collector, resource: Resource, flags: list[str], when: Moment | None, changed: Moment | None
) -> Moment | None:
    """When a version that came after the final one was there: the latest that the resource states.

    ``meta.lastUpdated`` may be the export's own time. It is never before the change, so what it
    dates can be missed and cannot be seen too early.

    Args:
        flags: gets ``revised``, or ``undated_revision`` where nothing states when it was changed.
        when: when the fact itself was available.
        changed: when the resource says that this version was made, or None.
    """
    stated = [moment for moment in (changed, collector.version(resource)) if moment is not None]
    flags.append("revised" if stated else "undated_revision")
    return max([*stated, *([when] if when else [])], key=lambda moment: moment[0], default=None)


def taken_back(collector: Collector, head: Head, status: str) -> Head | None:
    """The head of what was known until the record took it back; None where nothing says until when.

    With ``ingest.last_updated_is_change`` the fact stays and ingest ends it at ``meta.lastUpdated``.
    Else it is dropped and counted: the end of what is known to be wrong must not be guessed.
    """
    collector.withdraw(head)
    dated = head.version_us is not None and head.instance is not None
    if collector.last_updated_is_change and dated:
        collector.copies += 1
        return head._replace(version_us=_FIRST_US, copy=collector.copies)
    name = status if status == "entered-in-error" else f"status:{status}"
    collector.dropped[name] += 1
    return None
