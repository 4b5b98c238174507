"""Fixtures that every room's tests share."""

from __future__ import annotations

import os

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each; before anything counts them
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.browsing import chromium

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The licensed test data; absent on most machines, and then its tests skip."""
    root = Path(os.environ.get("CLINIMM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "README.md").is_file():
        pytest.skip("no test data: set CLINIMM_TEST_DATA or put it at ../shared/data")
    return root


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, once a module: Playwright kept open for longer breaks tests that run a loop of their own."""
    with chromium() as found:
        yield found


@pytest.fixture(autouse=True)
def _own_configuration_folder(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keep the pseudonym key of the person who runs the tests out of them."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))
    monkeypatch.delenv("CLINIMM_PSEUDONYM_KEY", raising=False)
