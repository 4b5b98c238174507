from __future__ import annotations

from pathlib import Path

import pytest

from clinimm.audit.waiver import load_waivers
from clinimm.core.errors import ConfigError

_GOOD = """\
schema: clinimm.waivers/1
waivers:
  - rule: missed
    attribute: race
    level: Other
    reason: the group doubles in size by the summer
    owners: [A. Auditor, S. Officer]
    signed: 2030-04-01
    until: 2030-06-30
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "waivers.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_waiver_covers_its_group_alone(tmp_path: Path) -> None:
    (waiver,) = load_waivers(_write(tmp_path, _GOOD))
    assert waiver.covers("missed", "race", "Other", waiver.until)
    assert not waiver.covers("missed", "race", "Asian", waiver.until)
    assert not waiver.covers("ranking", "race", "Other", waiver.until)
    assert not waiver.covers("missed", "race", "Other", waiver.signed.replace(month=3))


@pytest.mark.parametrize(
    ("was", "becomes", "said"),
    [
        ("[A. Auditor, S. Officer]", "[A. Auditor, a. auditor ]", "two different owners"),
        ("[A. Auditor, S. Officer]", "[A. Auditor]", "at least 2"),
        ("until: 2030-06-30", "until: 2031-06-30", "at most 90 days"),
        ("until: 2030-06-30", "until: 2030-03-30", "lies before"),
        ("the group doubles in size by the summer", "soon", "at least 10"),
    ],
)
def test_half_a_waiver_is_none(tmp_path: Path, was: str, becomes: str, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"waivers\.yaml:\d+.*{said}"):
        load_waivers(_write(tmp_path, _GOOD.replace(was, becomes)))
