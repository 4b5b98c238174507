"""Invented people, sites, devices and unique identifiers; no name is taken from a list of people."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np

#: Assigning authority of the medical record numbers: ``Patient.identifier.system`` in FHIR and
#: Issuer of Patient ID (0010,0021) in DICOM.
ISSUER = "https://clinimm.example/mrn"

_FIRST = ("Ar", "Bel", "Cor", "Dal", "El", "Fen", "Ghi", "Hol", "Ir", "Jor", "Kel", "Lum", "Mir", "Nor", "Øs")
_SECOND = ("va", "wyn", "do", "ri", "ma", "the", "lin", "na", "sé", "ko")
_FAMILY = ("Toldrin", "Averlock", "Brannick", "Quistam", "Dorvale", "Emmerith", "Fallowen", "Grünvik")
_FAMILY_END = ("", "son", "ley", "ski", "ez", "ama")

# Code and display of https://www.hl7.org/fhir/us/core/CodeSystem-cdcrec.html, and how common it is
# here: invented shares, large enough in every group for an audit to have something to say.
RACES: tuple[tuple[str, str, float], ...] = (
    ("2106-3", "White", 0.52),
    ("2054-5", "Black or African American", 0.24),
    ("2028-9", "Asian", 0.16),
    ("1002-5", "American Indian or Alaska Native", 0.08),
)
ETHNICITIES: tuple[tuple[str, str, float], ...] = (
    ("2186-5", "Not Hispanic or Latino", 0.8),
    ("2135-2", "Hispanic or Latino", 0.2),
)


@dataclass(frozen=True)
class Site:
    """One hospital of the group, with its X-ray device.

    Attributes:
        key: short name used in resource ids.
        name: Institution Name and Organization.name.
        letter: what its radiographers put in the film's corner.
        manufacturer, model: its X-ray device; both invented.
        digital: True writes Digital X-Ray (DX) objects, False Computed Radiography (CR).
        bits_stored: 12 or 16.
        aspect: columns over rows of its films, at most 1.
        other_units: LOINC codes that its laboratory and wards report in the other usual unit.
    """

    key: str
    name: str
    letter: str
    manufacturer: str
    model: str
    digital: bool
    bits_stored: int
    aspect: float
    other_units: frozenset[str] = frozenset()


#: The main site first; the factor ``main_site`` is about it.
SITES: tuple[Site, ...] = (
    Site(
        "northfield",
        "Northfield General",
        "N",
        "Lumenray",
        "DX-400",
        True,
        16,
        1.0,
        frozenset({"8310-5", "29463-7"}),
    ),
    Site(
        "southbank", "Southbank Infirmary", "S", "Orthoview", "CR 25", False, 12, 0.875, frozenset({"1988-5"})
    ),
    Site(
        "westhill",
        "Westhill Clinic",
        "W",
        "Orthoview",
        "DR Solo",
        True,
        12,
        1.0,
        frozenset({"2160-0", "2345-7", "718-7"}),
    ),
)


@dataclass(frozen=True)
class Person:
    """Who a patient is: all that must not leave ingest."""

    patient_id: str
    given: str
    family: str
    woman: bool
    birth_date: date
    race: tuple[str, str]
    ethnicity: tuple[str, str]
    insurance_number: str

    @property
    def gender(self) -> str:
        """FHIR administrative gender."""
        return "female" if self.woman else "male"

    def age_years(self, day: date) -> int:
        """Whole years on ``day``."""
        had_birthday = (day.month, day.day) >= (self.birth_date.month, self.birth_date.day)
        return day.year - self.birth_date.year - (0 if had_birthday else 1)


def patient_id(seed: int, number: int) -> str:
    """The medical record number; hospitals of different seeds share none.

    >>> patient_id(7, 12)
    'H7P00012'
    """
    return f"H{seed}P{number:05d}"


def draw_person(seed: int, number: int, woman: bool, index: date, generator: np.random.Generator) -> Person:
    """Draw who patient ``number`` is; ``index`` is the day of the index film."""
    age_days = int(np.clip(generator.normal(63, 15), 19, 97) * 365.25)
    return Person(
        patient_id=patient_id(seed, number),
        given=_pick(_FIRST, generator) + _pick(_SECOND, generator),
        family=_pick(_FAMILY, generator) + _pick(_FAMILY_END, generator),
        woman=woman,
        birth_date=index - timedelta(days=age_days),
        race=_pick_coded(RACES, generator),
        ethnicity=_pick_coded(ETHNICITIES, generator),
        insurance_number=f"{generator.integers(10**9, 10**10)}",
    )


def draw_site(main: bool, generator: np.random.Generator) -> Site:
    """The main site, or one of the others."""
    return SITES[0] if main else SITES[1 + int(generator.integers(len(SITES) - 1))]


@dataclass(frozen=True)
class Ids:
    """Makes unique identifiers that depend on nothing but who asks for what."""

    prefix: str

    def uuid(self, what: str) -> str:
        """A version 5 UUID (RFC 9562)."""
        return str(uuid.uuid5(uuid.NAMESPACE_URL, f"https://clinimm.example/simulate/{self.prefix}/{what}"))

    def uid(self, what: str) -> str:
        """A DICOM UID from that UUID (PS3.5 B.2: ``2.25.`` and the UUID as an integer)."""
        return f"2.25.{uuid.UUID(self.uuid(what)).int}"


def _pick(choices: tuple[str, ...], generator: np.random.Generator) -> str:
    return choices[int(generator.integers(len(choices)))]


def _pick_coded(table: tuple[tuple[str, str, float], ...], generator: np.random.Generator) -> tuple[str, str]:
    shares = np.array([share for _, _, share in table])
    code, display, _ = table[int(generator.choice(len(table), p=shares / shares.sum()))]
    return code, display
