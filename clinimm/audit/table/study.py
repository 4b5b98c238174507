"""The figures of a table as they are asked for: made once, kept, and compared with a reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from clinimm.audit.engine.compare import Contrast, alone, difference, ratio
from clinimm.audit.engine.counts import Tables
from clinimm.audit.engine.figures import Figures
from clinimm.audit.engine.measures import COUNTED, MEASURES, counted, measure
from clinimm.audit.engine.ranking import auroc_over_repeats
from clinimm.audit.engine.rows import Grouping, Rows, Segments
from clinimm.audit.policy import Rule
from clinimm.core.errors import ConfigError

#: Joins the attributes of an intersection in a policy and on the command line.
CROSS = "*"
#: References that are no level, also where a level is called so.
NO_LEVEL = ("rest", "overall")
#: Joins them for people, in findings and tables.
CROSSED = " × "


@dataclass(frozen=True)
class Place:
    """One group of one grouping.

    Attributes:
        grouping: its siblings.
        group: its position among them.
    """

    grouping: Grouping
    group: int

    @property
    def attribute(self) -> str:
        """``race``, or ``race × sex``."""
        return CROSSED.join(self.grouping.attributes) or "overall"

    @property
    def level(self) -> str:
        """``Asian``, or ``Asian × female``."""
        return CROSSED.join(self.grouping.levels[self.group]) or "everybody"


@dataclass(frozen=True)
class Study:
    """Figures of one table at one threshold, each made when it is first asked for.

    Attributes:
        rows: what is audited.
        threshold: from which a row is flagged, and what a miss weighs.
        unit: what a row is to people: ``rows`` of a table, ``subjects`` of a run.
    """

    rows: Rows
    threshold: float
    unit: str = "rows"
    _kept: dict[Any, Any] = field(default_factory=dict, repr=False)

    def grouping(self, attribute: str) -> Grouping:
        """The groups of an attribute, or of an intersection such as ``race*sex``; everybody for none."""
        names = tuple(name.strip() for name in attribute.split(CROSS)) if attribute else ()
        make = (lambda: self.rows.grouping(names)) if names else self.rows.everybody
        return self._once(("grouping", names), make)

    def knows(self, attribute: str) -> bool:
        """Whether the rows have an attribute, or each of an intersection."""
        return all(name.strip() in self.rows.attributes for name in attribute.split(CROSS))

    def subjects(self, rows: float) -> int:
        """How many subjects so many rows are, where a cross-validation repeats each."""
        return round(rows / self.rows.repeats)

    def unit_of(self, name: str) -> str:
        """What a measure counts in, in words."""
        return MEASURES[name].unit.replace("rows", self.unit)

    def cases(self, name: str, n: float) -> float:
        """What a measure counts in, without repeats; an AUROC over repeats counts subjects already."""
        return n if name == "auroc" else n / self.rows.repeats

    def segments(self, grouping: Grouping) -> Segments:
        """The rows in order of the groups."""
        return self._once(("segments", grouping.attributes), lambda: self.rows.segments(grouping))

    def tables(self, grouping: Grouping) -> Tables:
        """The two-by-two tables of the groups, from one joint count table."""

        def make() -> Tables:
            counts = self._once(("atoms",), lambda: self.rows.atom_counts(self.threshold))
            return Tables.of_atoms(
                self.rows, grouping, counts, self.threshold, lambda: self.segments(grouping)
            )

        return self._once(("tables", grouping.attributes), make)

    def figures(self, grouping: Grouping, name: str) -> Figures:
        """A measure of every group."""

        def make() -> Figures:
            if name in COUNTED:
                return counted(self.tables(grouping), name)
            if name == "auroc" and self.rows.repeats > 1:
                return auroc_over_repeats(*self.rows.by_repeat(grouping), grouping.size)
            return measure(self.segments(grouping), self.threshold, [name])[name]

        return self._once(("figures", grouping.attributes, name), make)

    def reference(self, place: Place, name: str, reference: str) -> tuple[Figures, int]:
        """The figures that a group is compared with, and the position among them.

        Raises:
            ConfigError: the reference is no level of the attribute.
        """
        if reference == "overall":
            return self.figures(self.grouping(""), name), 0
        if reference == "rest":
            return self._rest(place, name)
        levels = [CROSSED.join(level) for level in place.grouping.levels]
        if reference not in levels:
            raise ConfigError(
                f"reference {reference}: {place.attribute} has no such level; it has {', '.join(levels)} "
                "(or rest, or overall)."
            )
        return self.figures(place.grouping, name), levels.index(reference)

    def contrast(self, rule: Rule, place: Place) -> Contrast:
        """What a rule judges of a group."""
        own = self.figures(place.grouping, rule.metric)
        if rule.stat == "value":
            return alone(own, place.group)
        compare = difference if rule.stat == "difference" else ratio
        return compare(own, place.group, *self.reference(place, rule.metric, rule.reference))

    def places(self, rule: Rule) -> Sequence[Place]:
        """The groups that a rule judges; a reference level is not judged against itself."""
        if not rule.attribute:
            return [Place(self.grouping(""), 0)]
        found = [
            Place(grouping, group)
            for grouping in map(self.grouping, filter(self.knows, rule.attribute))
            for group in range(grouping.size)
        ]
        named = rule.stat != "value" and rule.reference not in NO_LEVEL
        return [place for place in found if not named or place.level != rule.reference]

    def _rest(self, place: Place, name: str) -> tuple[Figures, int]:
        grouping = place.grouping
        if self.rows.cluster is None and name in COUNTED:
            key = ("outside", grouping.attributes, name)
            return self._once(key, lambda: counted(self.tables(grouping).outside(), name)), place.group

        def make() -> Figures:
            others = np.arange(grouping.size) != place.group
            if name == "auroc" and self.rows.repeats > 1:
                return auroc_over_repeats(*self.rows.by_repeat(grouping, others), 1)
            return measure(self.rows.part(grouping, others), self.threshold, [name])[name]

        return self._once(("rest", grouping.attributes, place.group, name), make), 0

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]
