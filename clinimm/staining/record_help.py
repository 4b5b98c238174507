"""Did the record help? What is said where the twin that sees pixels alone did as well."""

from __future__ import annotations

from collections.abc import Mapping

from clinimm.staining.agreement import Figure
from clinimm.staining.verdict import BARS, WORDS, StainEvidence, signed


def record_warning(evidence: StainEvidence, gains: Mapping[str, Figure]) -> tuple[str, ...]:
    """The sentence that offers the simpler model where the record was not shown to help (law 5).

    The record earns its place where, on a measure that decides, the whole interval of what it adds
    lies above zero. Where it does not, the model without it is offered: firmly where the intervals leave
    no gain worth having, or show harm; else as the one to prefer until more subjects tell.

    Args:
        evidence: of the stain; says which measures decide.
        gains: measure -> the model less its twin that sees pixels alone; empty where none was trained.
    """
    known = {one.name: gains[one.name] for one in evidence.usable if one.name in gains}
    if not known or any(one.known and one.low > 0 for one in known.values()):
        return ()
    figures = "; ".join(f"{WORDS[name]} {signed(found)}" for name, found in known.items())
    none = all(found.known and found.high < BARS[name].gain for name, found in known.items())
    harm = any(found.known and found.high < 0 for found in known.values())
    first = "The record did not help" if none or harm else "The record was not shown to help"
    return (f"{first}: train without it (`staining.context: false`). It adds {figures} ({evidence.scope}).",)
