"""``governance/gate.yaml``: which roles each act needs, and the people with their public keys.

This file is what the gate trusts. Whoever may change it may let any model through, so a change to it is
reviewed like a change to the policy; a private key never stands in it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, field_validator, model_validator

from clinimm.config import Frozen
from clinimm.core.bundle import key_hint
from clinimm.core.errors import ConfigError
from clinimm.core.keys import as_text, load_public
from clinimm.core.names import same_name
from clinimm.core.record import digest_file
from clinimm.yaml_lines import read_yaml, validate

if TYPE_CHECKING:
    from clinimm.core.keys import PublicKey

GATE_NAME = "gate.yaml"
#: Folder with ``gate.yaml``, where it is not ``governance`` below the working folder.
GOVERNANCE_VARIABLE = "CLINIMM_GOVERNANCE"

Act = Literal["register", "promote", "serve"]
ACTS: tuple[Act, ...] = ("register", "promote", "serve")
Role = Literal["author", "auditor", "clinical_safety_officer", "clinical_lead", "registrar"]
#: Roles that make or file a model and judge none.
NOT_APPROVING = frozenset({"author", "registrar"})
#: Two years: about what a key of ``clinimm gate keygen`` lasts.
_LONGEST_DAYS = 731


class Key(Frozen):
    """A public key of a person."""

    public: str = Field(description="Public key (PEM).")
    valid_from: date = Field(description="First day on which it counts.")
    valid_until: date = Field(description="Last day on which it counts; an earlier day withdraws it.")

    @field_validator("public")
    @classmethod
    def _is_public(cls, value: str) -> str:
        if "PRIVATE" in value:
            raise ValueError("this is a private key: take it out, and make a new pair")
        try:
            load_public(value.encode(), "public")
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return value

    @cached_property
    def key(self) -> PublicKey:
        """The key itself."""
        return load_public(self.public.encode(), "public")

    @property
    def hint(self) -> str:
        """How a bundle names it."""
        return key_hint(self.key)

    @property
    def text(self) -> str:
        """How a signature of ``core.sign`` names it."""
        return as_text(self.key)

    def counts(self, day: date) -> bool:
        """Whether what it signs counts on a day."""
        return self.valid_from <= day <= self.valid_until


class Person(Frozen):
    """Somebody who makes, judges or files models."""

    name: str = Field(min_length=1, description="Name of the person; one person stands here once.")
    roles: tuple[Role, ...] = Field(min_length=1, description="What the person may sign as.")
    keys: tuple[Key, ...] = Field(min_length=1, description="The person's public keys.")


class GateRules(Frozen):
    """What must be signed, by whom, before a model may be used."""

    schema_: Literal["clinimm.gate/1"] = Field(alias="schema", description="Format of the file.")
    policies: tuple[Path, ...] = Field(
        (Path("policy.yaml"),), description="Policies under which an audit counts, below this folder."
    )
    intended_use: Path | None = Field(None, description="Text of the intended use, below this folder.")
    longest_days: int = Field(
        365, ge=1, le=_LONGEST_DAYS, description="Longest life of an approval, days; at most 731."
    )
    acts: dict[Act, tuple[Role, ...]] = Field(description="Act -> roles that must have approved it.")
    people: tuple[Person, ...] = Field((), description="Who may sign.")

    @model_validator(mode="after")
    def _separates_duties(self) -> GateRules:
        for act in ACTS:
            roles = self.acts.get(act, ())
            if not roles or NOT_APPROVING & set(roles):
                raise ValueError(f"acts: {act} needs at least one approving role, and no author or registrar")
        names = [same_name(person.name) for person in self.people]
        keys = [key.text for person in self.people for key in person.keys]
        if len(set(names)) < len(names) or len(set(keys)) < len(keys):
            raise ValueError("people: a person and a key stand here once")
        return self


@dataclass(frozen=True)
class Governance:
    """The folder that the gate trusts.

    Attributes:
        folder: it.
        rules: its ``gate.yaml``.
    """

    folder: Path
    rules: GateRules

    def policy_digests(self) -> frozenset[str]:
        """SHA-256 of every policy under which an audit counts, as they are now."""
        return frozenset(digest_file(self._file(path)) for path in self.rules.policies)

    def intended_use_digest(self) -> str | None:
        """SHA-256 of the intended use as it is now; None where the rules name none."""
        return None if self.rules.intended_use is None else digest_file(self._file(self.rules.intended_use))

    def by_hint(self, hint: str) -> tuple[Person, Key] | None:
        """Whose key a bundle names."""
        return next((found for found in self._keys() if found[1].hint == hint), None)

    def by_text(self, text: str) -> tuple[Person, Key] | None:
        """Whose key a signature names."""
        return next((found for found in self._keys() if found[1].text == text), None)

    def keys_of(self, role: Role, day: date | None = None) -> frozenset[str]:
        """Keys of everybody in a role, as ``Signature.public_key``; on a day, those that count then."""
        return frozenset(
            key.text
            for person, key in self._keys()
            if role in person.roles and (day is None or key.counts(day))
        )

    def _keys(self) -> Iterator[tuple[Person, Key]]:
        return ((person, key) for person in self.rules.people for key in person.keys)

    def _file(self, path: Path) -> Path:
        found = self.folder / path
        if not found.is_file():
            raise ConfigError(f"{self.folder / GATE_NAME}: names {path}, which is not there.")
        return found


def load_governance(folder: Path | None = None) -> Governance:
    """The folder that the gate trusts: the given one, else ``$CLINIMM_GOVERNANCE``, else ``governance``.

    Raises:
        ConfigError: it has no ``gate.yaml``, or a mistake in it, with ``file:line``.
    """
    chosen = folder or Path(os.environ.get(GOVERNANCE_VARIABLE) or "governance")
    path = chosen / GATE_NAME
    if not path.is_file():
        raise ConfigError(
            f"{path}: not found. The gate trusts the people in this file; give its folder with --governance "
            f"DIR or in ${GOVERNANCE_VARIABLE}."
        )
    return Governance(chosen, validate(read_yaml(path), GateRules))
