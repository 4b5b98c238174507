"""Who is who: identities of many files and sources become subjects.

Rules, in this order:

1. Equal identifiers of the same issuer are one person. Where only one side states an issuer, equal
   values link if the value belongs to one person only; where both state one and they differ, they
   do not link.
2. Two persons' data never mix on a guess. Where a link would join two birth dates, or female and
   male, the items without a record of their own (images, loose notes) are refused, and the Patient
   resource stays; where Patient resources contradict each other, all of them are refused.
3. The pseudonym is that of one identifier value: the first key (the medical record number, the DICOM
   Patient ID) of the first source, and of equals the smallest. Its issuer goes in only where the
   same value names two persons. So a later source that adds an issuer or further identifiers to
   a known person changes nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from clinimm.core.pseudonym import Pseudonymiser
from clinimm.ingest.people import LOGICAL_ID, Key, Links, Name, Person, Stated, normal_issuer
from clinimm.modality import Identity

_PLACEHOLDERS = frozenset(
    ("", "unknown", "anonymous", "anonymized", "anon", "none", "null", "n/a", "na", "-", "0")
)


def link(stated: Sequence[Stated], pseudonymiser: Pseudonymiser) -> Links:
    """Group identities into people. The order of ``stated`` does not matter."""
    return _Linker(_ordered(stated), pseudonymiser).links()


def _ordered(stated: Sequence[Stated]) -> list[Stated]:
    cleaned = [
        replace(item, identity=replace(item.identity, keys=tuple(_keys(item.identity)))) for item in stated
    ]
    return sorted(cleaned, key=lambda item: (item.source, repr(item.identity), sorted(item.files)))


def _keys(identity: Identity) -> Iterable[Key]:
    for issuer, value in identity.keys:
        if value.strip().casefold() not in _PLACEHOLDERS or issuer == LOGICAL_ID:
            yield normal_issuer(issuer), value.strip()


class _Linker:
    """Union-find over identities."""

    def __init__(self, stated: list[Stated], pseudonymiser: Pseudonymiser) -> None:
        self.stated = stated
        self.pseudonymiser = pseudonymiser
        self.result = Links()
        self.parent = list(range(len(stated)))

    def links(self) -> Links:
        """Do all steps."""
        self._join_versions()
        self._join_issued()
        self._join_unissued()
        groups: dict[int, list[Stated]] = defaultdict(list)
        for number, item in enumerate(self.stated):
            if item.identity.keys and not self._has_problem(item):
                groups[self._root(number)].append(item)
        members = [kept for group in groups.values() if (kept := self._without_conflicts(group))]
        shared = _shared_values(members)
        self.result.shared_values = len({value for scope, value in shared if scope is None})
        for group in members:
            self._make_person(group, shared)
        return self.result

    def _root(self, number: int) -> int:
        while self.parent[number] != number:
            self.parent[number] = self.parent[self.parent[number]]
            number = self.parent[number]
        return number

    def _union(self, numbers: Iterable[int]) -> None:
        roots = sorted({self._root(number) for number in numbers})
        for root in roots[1:]:
            self.parent[root] = roots[0]

    def _join_versions(self) -> None:
        """Patient resources of one id: the latest version speaks, if they are of one person."""
        same: dict[tuple[int, str], list[int]] = defaultdict(list)
        for number, item in enumerate(self.stated):
            if item.identity.reference is not None:
                same[item.source, item.identity.reference].append(number)
        for numbers in same.values():
            if len(numbers) < 2:
                continue
            keys = [
                {key for key in self.stated[number].identity.keys if key[0] != LOGICAL_ID}
                for number in numbers
            ]
            if (
                all(keys)
                and not set.intersection(*keys)
                and _conflict(self.stated[n].identity for n in numbers)
            ):
                for number in numbers:
                    self._refuse(self.stated[number], "identity-conflict")
                continue
            self._union(numbers)
            self._keep_latest(numbers)

    def _keep_latest(self, numbers: list[int]) -> None:
        versions = [self.stated[number].identity.version_us for number in numbers]
        known = [version for version in versions if version is not None]
        if not known or len(set(known)) < 2:
            return
        for number, version in zip(numbers, versions, strict=True):
            if version != max(known):
                item = self.stated[number]
                older = replace(item.identity, birth_date=None, sex=None, race=None, ethnicity=None)
                self.stated[number] = replace(item, identity=older)

    def _join_issued(self) -> None:
        holders: dict[tuple[int | None, str, str], list[int]] = defaultdict(list)
        for number, item in enumerate(self.stated):
            for issuer, value in item.identity.keys:
                if issuer is not None:
                    holders[_scope(item, issuer), issuer, value].append(number)
        for numbers in holders.values():
            self._union(numbers)

    def _join_unissued(self) -> None:
        """A value without issuer belongs to whoever alone has it; else it names nobody."""
        bare: dict[str, list[int]] = defaultdict(list)
        issued: dict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(self.stated):
            for issuer, value in item.identity.keys:
                if issuer is None:
                    bare[value].append(number)
                elif issuer != LOGICAL_ID:
                    issued[value].append(number)
        for value in sorted(bare):
            owners = {self._root(number) for number in issued[value]}
            if len(owners) <= 1:
                self._union([*bare[value], *owners])
            elif any(self._root(number) not in owners for number in bare[value]):
                for number in bare[value]:
                    if self._root(number) not in owners:
                        self._refuse(self.stated[number], "ambiguous-identifier")

    def _without_conflicts(self, group: list[Stated]) -> list[Stated]:
        """The members of a group that agree; the others are refused."""
        if not _conflict(item.identity for item in group):
            return group
        records = [item for item in group if item.is_record]
        if not records or _conflict(item.identity for item in records):
            for item in group:
                self._refuse(item, "identity-conflict")
            return []
        others = [item for item in group if not item.is_record]
        agreeing = []
        for item in others:
            if _conflict([item.identity, *(record.identity for record in records)]):
                self._refuse(item, "identity-conflict")
            else:
                agreeing.append(item)
        if _conflict(item.identity for item in agreeing):
            for item in agreeing:
                self._refuse(item, "identity-conflict")
            agreeing = []
        return records + agreeing

    def _has_problem(self, item: Stated) -> bool:
        return any(name in self.result.problems for name in _names(item))

    def _refuse(self, item: Stated, code: str) -> None:
        for name in _names(item):
            self.result.problems[name] = code

    def _make_person(self, group: list[Stated], shared: set[tuple[int | None, str]]) -> None:
        subject_id = self._subject_id(group, shared)
        identities = [item.identity for item in sorted(group, key=lambda item: not item.is_record)]
        identifiers = sorted({value for identity in identities for _, value in identity.keys})
        words = {word for identity in identities for word in identity.names} | set(identifiers)
        births = [identity.birth_date for identity in identities if identity.birth_date]
        self.result.people[subject_id] = Person(
            subject_id=subject_id,
            identifiers=tuple(identifiers),
            words=tuple(sorted(words)),
            birth_date=max(births, key=len) if births else None,
            sex=_sex(identities),
            race=next((identity.race for identity in identities if identity.race), None),
            ethnicity=next((identity.ethnicity for identity in identities if identity.ethnicity), None),
            race_source=next((identity.race_source for identity in identities if identity.race), None),
        )
        for item in group:
            if item.identity.reference is not None:
                self.result.by_reference[item.source, item.identity.reference] = subject_id
            for issuer, value in item.identity.keys:
                self.result.by_key[_scope(item, issuer), issuer, value] = subject_id

    def _subject_id(self, group: list[Stated], shared: set[tuple[int | None, str]]) -> str:
        _, _, _, value, issuer, source = min(
            (issuer == LOGICAL_ID, item.source, place, value, issuer or "", item.source)
            for item in group
            for place, (issuer, value) in enumerate(item.identity.keys)
        )
        if issuer == LOGICAL_ID:
            scope = f"{LOGICAL_ID}#{source}" if (-1, value) in shared else LOGICAL_ID
            return self.pseudonymiser.subject(scope, value)
        return self.pseudonymiser.subject(issuer if (None, value) in shared else None, value)


def _scope(item: Stated, issuer: str | None) -> int | None:
    return item.source if issuer == LOGICAL_ID else None


def _names(item: Stated) -> Iterable[Name]:
    """Every way in which the files of an identity may name it."""
    identity = item.identity
    if identity.reference is not None:
        yield (-1 - item.source, identity.reference, None, None)
    else:
        for file in item.files:
            for issuer, value in identity.keys:
                yield (file, None, issuer, value)


def _conflict(identities: Iterable[Identity]) -> bool:
    """Whether two birth dates, or female and male, stand in identities of one person."""
    births: set[str] = set()
    sexes: set[str] = set()
    for identity in identities:
        births |= {identity.birth_date} if identity.birth_date else set()
        sexes |= {identity.sex} if identity.sex in ("female", "male") else set()
    longest = sorted(births, key=lambda birth: (-len(birth), birth))
    return len(sexes) > 1 or any(not longest[0].startswith(birth) for birth in longest)


def _sex(identities: list[Identity]) -> str | None:
    stated = [identity.sex for identity in identities if identity.sex]
    return next((sex for sex in stated if sex != "unknown"), stated[0] if stated else None)


def _shared_values(groups: list[list[Stated]]) -> set[tuple[int | None, str]]:
    """Values that name more than one group; -1 marks those of records' own ids."""
    holders: dict[tuple[int | None, str], set[int]] = defaultdict(set)
    for number, group in enumerate(groups):
        for item in group:
            for issuer, value in item.identity.keys:
                holders[-1 if issuer == LOGICAL_ID else None, value].add(number)
    return {key for key, numbers in holders.items() if len(numbers) > 1}
