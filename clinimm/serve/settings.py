"""What a hospital says about its own application: who signs in, who may do what, and the limits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, model_validator

from clinimm.core.errors import ConfigError
from clinimm.serve.identity import Role
from clinimm.yaml_lines import read_yaml, validate

#: Names and addresses that never leave this machine.
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
#: Where the client's secret comes from; it stands in no file that is versioned.
SECRET_VARIABLE = "CLINIMM_OIDC_CLIENT_SECRET"  # noqa: S105  # a variable's name, not a secret


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OidcSettings(_Frozen):
    """The hospital's OpenID Connect provider."""

    issuer: str = Field(description="Issuer, exactly as its discovery document states it; https.")
    client_id: str = Field(min_length=1, description="This application's name at the provider.")
    scopes: tuple[str, ...] = Field(
        ("openid", "profile", "fhirUser"), description="Scopes that are asked for (SMART App Launch)."
    )
    role_claim: str = Field(
        "roles", description="Claim that holds the person's roles or groups; dots lead into objects."
    )
    roles: dict[str, Role] = Field(
        description="Value of the claim -> role. A value that is not named gives no role."
    )
    require_fhir_user: bool = Field(False, description="Refuse people without a `fhirUser`.")
    site_claim: str | None = Field(
        None,
        description="Claim that holds the sites whose patients somebody may see, as the cohort names them; "
        "null is every patient of a run.",
    )
    algorithms: tuple[Literal["RS256", "PS256", "ES256", "EdDSA"], ...] = Field(
        ("RS256", "PS256", "ES256"), min_length=1, description="Signatures of ID tokens that are accepted."
    )
    leeway_s: int = Field(30, ge=0, le=120, description="How far clocks may differ, seconds.")

    @model_validator(mode="after")
    def _is_safe(self) -> OidcSettings:
        _require_https(self.issuer, "issuer")
        if "openid" not in self.scopes:
            raise ValueError("scopes must hold openid")
        return self


class Limits(_Frozen):
    """How much one client may ask for."""

    body_kib: int = Field(64, ge=1, description="Largest body of a request, KiB.")
    body_seconds: float = Field(10.0, gt=0, description="Longest time that a body may take to arrive, s.")
    pages_per_minute: int = Field(120, ge=1, description="Pages and API calls a minute and person.")
    pictures_per_minute: int = Field(3000, ge=1, description="Slices and tiles a minute and person.")
    writes_per_minute: int = Field(30, ge=1, description="Verdicts and explanations a minute and person.")
    sign_ins_per_minute: int = Field(20, ge=1, description="Attempts to sign in a minute and address.")
    session_idle_minutes: int = Field(30, ge=1, description="A session ends after so long without use.")
    session_hours: int = Field(10, ge=1, description="A session ends after so long in any case.")
    patient_view_minutes: int = Field(
        15, ge=1, description="A picture that is looked at for longer is entered in the log again."
    )


class TlsSettings(_Frozen):
    """The server's own certificate."""

    certificate: Path = Field(description="Certificate chain (PEM).")
    key: Path = Field(description="The certificate's private key (PEM).")


class ServeSettings(_Frozen):
    """The file that `clinimm serve --config FILE` reads."""

    public_url: str = Field(
        "http://127.0.0.1:8000",
        description="Address in the browser; https, except on this machine itself.",
    )
    oidc: OidcSettings | None = Field(None, description="Sign-in; null only with `--single-user`.")
    tls: TlsSettings | None = Field(None, description="Certificate; null where a proxy has it.")
    proxies: tuple[str, ...] = Field(
        (),
        description="Addresses of your proxies, which speak https with the browsers and pass `Host` on; what "
        "they say of who asks (`X-Forwarded-For`) is believed, and nobody else's.",
    )
    impression_first: bool = Field(
        False, description="Clinicians record an own impression before they see the model's answer."
    )
    blocked_runs: Literal["refuse", "show"] = Field(
        "refuse", description="What happens to a run whose audit blocks it."
    )
    unapproved_runs: Literal["refuse", "research"] = Field(
        "refuse",
        description="What happens to a run that the gate does not let through: it is not served, or shown "
        "as research. `--single-user` shows it as research.",
    )
    governance: Path | None = Field(
        None, description="Folder of `gate.yaml`; null is `$CLINIMM_GOVERNANCE`, else `governance`."
    )
    trusted_key: Path | None = Field(
        None, description="Public key (PEM) that must have signed the runs; null is your own."
    )
    signing_key: Path | None = Field(
        None, description="Private key that signs the access log; null is your own."
    )
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _is_safe(self) -> ServeSettings:
        _require_https(self.public_url, "public_url")
        if urlsplit(self.public_url).path not in ("", "/"):
            raise ValueError("public_url must have no path: the application is served at the root")
        return self

    @property
    def signing_public_key(self) -> Path | None:
        """The public half of ``signing_key``, which lies beside it; None is your own."""
        return None if self.signing_key is None else self.signing_key.with_suffix(".pub")

    @property
    def secure(self) -> bool:
        """Whether the browser reaches it by https."""
        return self.public_url.startswith("https://")

    @property
    def origin(self) -> str:
        """``https://host[:port]``, as a browser sends it: small letters, no usual port (RFC 6454)."""
        return f"{urlsplit(self.public_url).scheme}://{self.host}"

    @property
    def host(self) -> str:
        """``host[:port]``, as the ``Host`` header must say."""
        parts = urlsplit(self.public_url.lower())
        return parts.netloc.removesuffix({"https": ":443", "http": ":80"}[parts.scheme])


def load_settings(path: Path) -> ServeSettings:
    """Read a settings file.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    return validate(read_yaml(path), ServeSettings)


def client_secret() -> str | None:
    """The client's secret from the environment; None for a public client, which PKCE protects."""
    return os.environ.get(SECRET_VARIABLE) or None


def require_loopback(host: str) -> None:
    """Single-user mode has no sign-in by name, so nobody else may reach it.

    Raises:
        ConfigError: ``host`` is reachable from another machine.
    """
    if host not in LOOPBACK:
        raise ConfigError(
            f"--single-user --host {host}: without sign-in the application is for this machine alone; give "
            "127.0.0.1, or set up sign-in with --config FILE."
        )


def is_loopback(host: str | None) -> bool:
    """Whether a name or address is this machine itself.

    >>> is_loopback("127.0.0.1"), is_loopback("192.0.2.1")
    (True, False)
    """
    return host in LOOPBACK


def _require_https(url: str, name: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.fragment or parts.query or not parts.hostname:
        raise ValueError(f"{name} must be an address such as https://host, got {url}")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(parts.hostname)):
        raise ValueError(f"{name} must be https, except on this machine itself, got {url}")
