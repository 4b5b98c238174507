"""The file that the gate trusts is refused where it would let somebody judge their own model."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from clinimm.core.errors import ConfigError
from clinimm.gate.rules import ACTS, load_governance
from tests.gate.conftest import TODAY, Hospital

REPOSITORY = Path(__file__).parents[2] / "governance"


def _change(hospital: Hospital, change: Any) -> None:
    hospital.write_rules(change)
    load_governance(hospital.governance.folder)


def test_the_repository_s_own_file_trusts_nobody_yet() -> None:
    found = load_governance(REPOSITORY)
    assert found.rules.people == () and set(found.rules.acts) == set(ACTS)
    assert len(found.policy_digests()) == 1 and found.intended_use_digest()


def test_no_private_key_lies_in_the_repository() -> None:
    for path in REPOSITORY.rglob("*"):
        if path.is_file():
            assert b"PRIVATE KEY-----" not in path.read_bytes(), path


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("roles", [[], ["author"], ["auditor", "registrar"]])
def test_each_act_needs_somebody_who_judges(hospital: Hospital, act: str, roles: list[str]) -> None:
    with pytest.raises(ConfigError, match=f"{act} needs at least one approving role"):
        _change(hospital, lambda rules: rules["acts"].update({act: roles}))


def test_act_that_is_left_out_is_not_free(hospital: Hospital) -> None:
    with pytest.raises(ConfigError, match="serve needs"):
        _change(hospital, lambda rules: rules["acts"].pop("serve"))


def test_one_key_is_one_person_s(hospital: Hospital) -> None:
    with pytest.raises(ConfigError, match="stand here once"):
        _change(hospital, lambda rules: rules["people"][1].update(keys=rules["people"][0]["keys"]))


def test_one_person_stands_there_once(hospital: Hospital) -> None:
    with pytest.raises(ConfigError, match="stand here once"):
        _change(hospital, lambda rules: rules["people"][1].update(name=" ada AUTHOR"))


def test_private_key_is_refused(hospital: Hospital) -> None:
    private = hospital.key("auditor").read_text()
    with pytest.raises(ConfigError, match="private key"):
        _change(hospital, lambda rules: rules["people"][1]["keys"][0].update(public=private))


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gate\.yaml: not found"):
        load_governance(tmp_path)


def test_policy_that_is_not_there(hospital: Hospital) -> None:
    (hospital.governance.folder / "policy.yaml").unlink()
    with pytest.raises(ConfigError, match=r"policy\.yaml, which is not there"):
        hospital.governance.policy_digests()


def test_keys_of_a_role_on_a_day(hospital: Hospital) -> None:
    known = hospital.governance
    assert len(known.keys_of("author")) == len(known.keys_of("author", TODAY)) == 1
    assert not known.keys_of("author", TODAY + timedelta(days=401))
