"""Settings that would let others in are refused before anything listens."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from clinimm.core.errors import ConfigError
from clinimm.serve.app import open_office
from clinimm.serve.run import check_transport, choose_settings
from clinimm.serve.settings import OidcSettings, ServeSettings, load_settings
from clinimm.serve.signing_in import local_path
from clinimm.yaml_lines import read_yaml, validate
from tests.serve.hospital import Hospital

OIDC = {"issuer": "https://id.example", "client_id": "c", "roles": {"x": "clinician"}}
PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "serve-the-application.md"


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.0.2.7", "example.org", "127.0.0.1.example.org", "", "127.0.0.2"]
)
def test_single_user_mode_is_for_this_machine_alone(host: str) -> None:
    with pytest.raises(ConfigError, match="for this machine alone"):
        choose_settings(None, True, host, 8000)


@pytest.mark.parametrize(("host", "url"), [("127.0.0.1", "http://127.0.0.1:81"), ("::1", "http://[::1]:81")])
def test_single_user_mode_takes_the_address_that_it_listens_on(host: str, url: str) -> None:
    assert choose_settings(None, True, host, 81).public_url == url


def test_without_a_provider_nobody_is_let_in() -> None:
    with pytest.raises(ConfigError, match="nobody can sign in"):
        choose_settings(None, False, "127.0.0.1", 8000)
    given = ServeSettings.model_validate({"public_url": "https://here.example", "oidc": OIDC})
    assert choose_settings(given, False, "127.0.0.1", 8000) == given
    with pytest.raises(ConfigError, match="leave one of the two out"):
        choose_settings(given, True, "127.0.0.1", 8000)


def test_an_office_without_sign_in_is_for_this_machine_too(hospital: Hospital, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="it must be this machine"):
        open_office(hospital.runs, ServeSettings(public_url="https://here.example"), tmp_path)


def test_other_machines_come_encrypted_or_not_at_all() -> None:
    given = ServeSettings.model_validate({"public_url": "https://here.example", "oidc": OIDC})
    with pytest.raises(ConfigError, match="without encryption"):
        check_transport(given, "0.0.0.0")
    check_transport(given, "127.0.0.1")
    check_transport(given.model_copy(update={"proxies": ("192.0.2.1",)}), "0.0.0.0")


@pytest.mark.parametrize(
    "changes",
    [
        {"public_url": "http://here.example"},
        {"public_url": "https://here.example/app"},
        {"public_url": "https://user@here.example"},
        {"public_url": "here.example"},
        {"oidc": OIDC | {"issuer": "http://id.example"}},
        {"oidc": OIDC | {"scopes": ["profile"]}},
        {"oidc": OIDC | {"algorithms": ["HS256"]}},
        {"oidc": OIDC | {"algorithms": ["none"]}},
        {"oidc": OIDC | {"roles": {"x": "admin"}}},
        {"oidc": OIDC | {"client_secret": "in a file"}},
        {"limits": {"body_kib": 0}},
        {"unknown": 1},
    ],
)
def test_settings_that_are_not_safe_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ServeSettings.model_validate(changes)


def test_a_mistake_names_its_line(tmp_path: Path) -> None:
    file = tmp_path / "serve.yaml"
    file.write_text(
        "public_url: https://here.example\noidc:\n  issuer: https://id.example\n  client_id: c\n  role: {}\n"
    )
    with pytest.raises(ConfigError, match=r"serve\.yaml:5: oidc\.role: is not a known key"):
        load_settings(file)


def test_the_example_of_the_documentation_is_read(tmp_path: Path) -> None:
    for number, text in enumerate(re.findall(r"```yml\n(.*?)```", PAGE.read_text(), re.DOTALL)):
        file = tmp_path / f"{number}.yaml"
        file.write_text(text)
        assert isinstance(validate(read_yaml(file), ServeSettings).oidc, OidcSettings)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/runs/demo?sort=patient", "/runs/demo?sort=patient"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("/a\r\nSet-Cookie: x=1", "/"),
        ("", "/"),
    ],
)
def test_a_sign_in_leads_back_to_this_server_only(target: str, path: str) -> None:
    assert local_path(target) == path


@pytest.mark.parametrize(
    ("url", "origin", "host"),
    [
        ("https://Here.Example:443/", "https://here.example", "here.example"),
        ("https://here.example:8443", "https://here.example:8443", "here.example:8443"),
        ("http://127.0.0.1:80", "http://127.0.0.1", "127.0.0.1"),
        ("http://[::1]:8000", "http://[::1]:8000", "[::1]:8000"),
    ],
)
def test_the_address_is_compared_as_browsers_send_it(url: str, origin: str, host: str) -> None:
    given = ServeSettings(public_url=url)
    assert (given.origin, given.host) == (origin, host)


@pytest.mark.parametrize("more", [{"proxies": ["127.0.0.1"]}, {"tls": {"certificate": "c", "key": "k"}}])
def test_single_user_mode_is_behind_no_proxy(more: dict[str, object]) -> None:
    """A proxy on this machine would let every other machine in, as the one user."""
    with pytest.raises(ConfigError, match="for this machine alone"):
        choose_settings(ServeSettings.model_validate(more), True, "127.0.0.1", 8000)
