"""Who somebody is, and which roles a provider's claims give; nobody has a role by default."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Role(StrEnum):
    """What somebody is here for."""

    CLINICIAN = "clinician"
    DATA_SCIENTIST = "data_scientist"
    AUDITOR = "auditor"


#: A FHIR reference to a person, relative or absolute (SMART App Launch 2.2, ``fhirUser``).
_FHIR_USER = re.compile(
    r"(?:https?://[^\s?#]+/)?"
    r"(?P<type>Practitioner|PractitionerRole|Person|RelatedPerson|Patient)/[A-Za-z0-9.-]{1,64}"
)
#: A patient or a relative may sign in at the same provider; neither works here.
_STAFF = frozenset({"Practitioner", "PractitionerRole", "Person"})
_LONGEST_NAME = 100


@dataclass(frozen=True)
class User:
    """A person who signed in.

    Attributes:
        issuer, subject: the provider and its name for the person; together they are unique.
        name: what people call the person; for display alone.
        fhir_user: the person's resource in the FHIR server, or None.
        roles: what the person may do; empty is nothing.
        sites: whose patients the person may see; None is everybody's.
    """

    issuer: str
    subject: str
    name: str
    fhir_user: str | None
    roles: frozenset[Role]
    sites: frozenset[str] | None = None

    @property
    def identifier(self) -> str:
        """``issuer|subject``, as the log and the feedback name the person."""
        return f"{self.issuer}|{self.subject}"

    def has(self, role: Role) -> bool:
        """Whether the person has a role."""
        return role in self.roles


#: The one person of single-user mode.
LOCAL_USER = User("local", "this-machine", "You, on this machine", None, frozenset(Role))


def user_from_claims(
    claims: Mapping[str, Any],
    role_claim: str,
    known: Mapping[str, Role],
    needs_fhir_user: bool = False,
    site_claim: str | None = None,
) -> User:
    """The person behind the claims of a validated ID token.

    A person whose ``fhirUser`` is a patient, a relative or nothing that is understood gets no role,
    whatever the groups say, and so does one without ``fhirUser`` where it is needed.
    """
    stated = claims.get("fhirUser") or None
    reference = fhir_user(stated)
    values = _values(claims, role_claim)
    roles = frozenset(known[value] for value in values if value in known)
    if needs_fhir_user if stated is None else reference is None or not is_staff(reference):
        roles = frozenset()
    shown = claims.get("name") or claims.get("preferred_username") or claims["sub"]
    return User(
        issuer=str(claims["iss"]),
        subject=str(claims["sub"]),
        name=str(shown)[:_LONGEST_NAME],
        fhir_user=reference,
        roles=roles,
        sites=None if site_claim is None else frozenset(_values(claims, site_claim)),
    )


def fhir_user(value: object) -> str | None:
    """The claim, where it is a reference to a person; else None.

    >>> fhir_user("Practitioner/1"), fhir_user("javascript:alert(1)")
    ('Practitioner/1', None)
    """
    return value if isinstance(value, str) and _FHIR_USER.fullmatch(value) else None


def is_staff(reference: str) -> bool:
    """Whether a ``fhirUser`` is somebody who treats patients, and not a patient or a relative."""
    found = _FHIR_USER.fullmatch(reference)
    return found is not None and found["type"] in _STAFF


def _values(claims: Mapping[str, Any], name: str) -> list[str]:
    """The strings under a claim; a claim with exactly that name comes before the dotted path."""
    value: Any = claims.get(name)
    if value is None:
        value = claims
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
    if isinstance(value, str):
        return [value]
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []
