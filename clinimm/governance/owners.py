"""Who answers for what: the roles that hazards, changes and empty items of a card are sent to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from clinimm.config import Frozen
from clinimm.yaml_lines import read_yaml, validate

OWNERS_FILE = "owners.yaml"


class Role(Frozen):
    """One role."""

    title: str = Field(min_length=1, description="The role's name, for people.")
    answers_for: str = Field(min_length=1, description="What this role decides and signs.")
    who: str = Field("", description="Person and how to reach them; empty until the hospital names one.")


class Owners(Frozen):
    """The roles of ``governance/owners.yaml``."""

    schema_: Literal["clinimm.owners/1"] = Field(alias="schema", description="Format of the file.")
    roles: dict[str, Role] = Field(min_length=1, description="Short name and role.")

    def name(self, role: str) -> str:
        """A role for people: its title, and who holds it.

        >>> owners = Owners(schema="clinimm.owners/1", roles={"lead": Role(title="lead", answers_for="all")})
        >>> owners.name("lead")
        'lead (nobody named yet)'
        """
        known = self.roles.get(role)
        if known is None:
            return role
        return f"{known.title} ({known.who or 'nobody named yet'})"


def load_owners(path: Path) -> Owners:
    """Read the roles.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    return validate(read_yaml(path), Owners)
