from __future__ import annotations

from pathlib import Path

import pytest

from clinimm.core.errors import ConfigError
from clinimm.monitor.plan import PACKAGED, MonitoringPlan, find_plan, load_plan

IN_REPOSITORY = Path(__file__).parents[2] / "governance" / "monitoring.yaml"


def test_the_packaged_plan_is_the_repository_s() -> None:
    assert PACKAGED.read_bytes() == IN_REPOSITORY.read_bytes()
    assert isinstance(load_plan(PACKAGED), MonitoringPlan)


def test_the_false_alarms_of_all_parts_that_act_are_added() -> None:
    plan = load_plan(PACKAGED)
    assert plan.false_alarms == pytest.approx(0.09)
    quiet = plan.model_copy(update={"drift": plan.drift.model_copy(update={"act": "observe"})})
    assert quiet.false_alarms == pytest.approx(0.08)


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("drift:\n  alpha: 2\n", ":3: drift.alpha"),
        ("drift:\n  adjust: none\n", ":3: drift.adjust"),
        ("minimum: 3\n", ":2: minimum"),
        ("betting: {act: undo}\n", ":2: betting.act"),
        ("driff: {}\n", ":2: driff: is not a known key"),
    ],
)
def test_a_mistake_is_named_with_its_line(tmp_path: Path, text: str, where: str) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("schema: clinimm.monitoring/1\n" + text)
    with pytest.raises(ConfigError, match=r"plan\.yaml") as caught:
        load_plan(file)
    assert where in str(caught.value)


def test_a_given_plan_comes_first_then_the_repository_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_plan(Path("mine.yaml")) == Path("mine.yaml")
    assert find_plan(None) == PACKAGED
    (tmp_path / "governance").mkdir()
    (tmp_path / "governance" / "monitoring.yaml").touch()
    assert find_plan(None) == Path("governance/monitoring.yaml")
