"""The signed run and the application over it, built once a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from clinimm.serve.office import Office
from tests.serve.hospital import Hospital, build_hospital, make_client, make_office


@pytest.fixture(scope="module")
def _configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keys of the module's own, before anything is signed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))
        patch.delenv("CLINIMM_PSEUDONYM_KEY", raising=False)
        yield


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory, _configuration: None) -> Hospital:
    return build_hospital(tmp_path_factory.mktemp("hospital"))


@pytest.fixture
def own_hospital(tmp_path: Path) -> Hospital:
    """One that a test may spoil."""
    return build_hospital(tmp_path)


@pytest.fixture
def office(hospital: Hospital, tmp_path: Path) -> Office:
    from clinimm.serve.app import open_office
    from clinimm.serve.settings import ServeSettings
    from tests.serve.hospital import SHOW

    return open_office(hospital.runs, ServeSettings.model_validate(SHOW), records=tmp_path / "records")


@pytest.fixture
def client(office: Office) -> Iterator[TestClient]:
    with make_client(office) as found:
        yield found


__all__ = ["make_office"]
