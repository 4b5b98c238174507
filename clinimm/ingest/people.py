"""The values of linkage: what is stated about patients, and who they turn out to be."""

from __future__ import annotations

from dataclasses import dataclass, field

from clinimm.modality import Identity

#: Issuer of keys made from a record's own id (see ``modalities/ehr/patient.py``): it counts within
#: one source only.
LOGICAL_ID = "urn:clinimm:logical-id"

Key = tuple[str | None, str]
#: How a file names a patient: file, reference, issuer, identifier.
Name = tuple[int, str | None, str | None, str | None]


@dataclass(frozen=True)
class Stated:
    """An identity, and where it was read.

    Attributes:
        source: position of the source in the pipeline file.
        files: numbers of the files that state exactly this.
    """

    source: int
    identity: Identity
    files: frozenset[int]

    @property
    def is_record(self) -> bool:
        """Whether it is a Patient resource, that other resources refer to."""
        return self.identity.reference is not None


@dataclass(frozen=True)
class Person:
    """A subject, with what must not be written about it.

    Attributes:
        identifiers: every identifier value.
        words: names, addresses and identifiers, to clean texts with.
        birth_date: ISO date or its beginning, or None.
    """

    subject_id: str
    identifiers: tuple[str, ...]
    words: tuple[str, ...]
    birth_date: str | None
    sex: str | None
    race: str | None
    ethnicity: str | None
    race_source: str | None


@dataclass
class Links:
    """The result of linkage.

    Attributes:
        people: subject_id -> person.
        problems: name -> refusal code, for what was not linked; a reference's file is -1 - source.
        shared_values: identifier values that name two persons under two issuers.
        by_reference: (source, reference) -> subject_id.
        by_key: (source of a record's own id, issuer, identifier) -> subject_id.
    """

    people: dict[str, Person] = field(default_factory=dict)
    problems: dict[Name, str] = field(default_factory=dict)
    shared_values: int = 0
    by_reference: dict[tuple[int, str], str] = field(default_factory=dict)
    by_key: dict[tuple[int | None, str | None, str], str] = field(default_factory=dict)

    def find(self, source: int, name: Name) -> tuple[str | None, str | None]:
        """Subject of what a file says, or None and the code of the refusal."""
        file, reference, issuer, identifier = name
        if reference is not None:
            problem = self.problems.get((-1 - source, reference, None, None))
            return (None, problem) if problem else _or(self.by_reference.get((source, reference)), "orphan")
        issuer, value = normal_issuer(issuer), str(identifier).strip()
        problem = self.problems.get((file, None, issuer, value))
        scope = source if issuer == LOGICAL_ID else None
        return (None, problem) if problem else _or(self.by_key.get((scope, issuer, value)), "no-identifier")


def normal_issuer(issuer: str | None) -> str | None:
    """An issuer without what FHIR and DICOM write differently: ``urn:oid:1.2`` is ``1.2``."""
    text = (issuer or "").strip().removeprefix("urn:oid:").rstrip("/")
    return text or None


def _or(subject: str | None, code: str) -> tuple[str | None, str | None]:
    return (subject, None) if subject is not None else (None, code)
