"""The bill of materials names what is installed, in a form that the standard's own schema accepts."""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from clinimm import __version__
from clinimm.register.sbom import bill_of_materials, installed, write_sbom

DIGEST = "a" * 64


@pytest.fixture(scope="module")
def bill() -> dict:  # type: ignore[type-arg]
    return bill_of_materials("demo", DIGEST)


def test_versions_are_those_that_are_installed(bill: dict) -> None:  # type: ignore[type-arg]
    found = {one["name"].lower(): one["version"] for one in bill["components"]}
    for name in ("torch", "mlflow", "numpy", "pandas", "cryptography", "safetensors"):
        assert found[name] == version(name)
    assert found["clinimm"] == __version__
    assert "pytest" not in found and "ruff" not in found  # nothing was made with these


def test_packages_of_packages_are_there() -> None:
    assert {"clinimm", "mlflow", "sqlalchemy", "python-dateutil", "six"} <= set(installed("clinimm"))


def test_every_reference_leads_to_a_component(bill: dict) -> None:  # type: ignore[type-arg]
    known = {one["bom-ref"] for one in bill["components"]} | {"model:demo"}
    for row in bill["dependencies"]:
        assert row["ref"] in known and set(row["dependsOn"]) <= known
    assert bill["metadata"]["component"]["hashes"] == [{"alg": "SHA-256", "content": DIGEST}]


def test_second_time_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_sbom(tmp_path / name, "demo", DIGEST)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    write_sbom(tmp_path / "c", "demo", "b" * 64)
    numbers = {json.loads((tmp_path / name).read_text())["serialNumber"] for name in "ac"}
    assert len(numbers) == 2


def test_schema_of_the_standard_accepts_it(bill: dict) -> None:  # type: ignore[type-arg]
    if find_spec("cyclonedx") is None:
        pytest.skip("cyclonedx-python-lib is not installed")
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    validator = JsonStrictValidator(SchemaVersion.V1_6)
    assert validator.validate_str(json.dumps(bill)) is None
    assert validator.validate_str(json.dumps(bill | {"components": [{"name": "x"}]})) is not None
