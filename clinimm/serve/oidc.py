"""Sign-in by OpenID Connect: the code flow with PKCE (OIDC Core 1.0, RFC 7636, RFC 9700).

This server asks the provider, and nobody else, and the browser asks nobody but the two.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from functools import cached_property
from http import HTTPStatus
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import BadSignatureError, InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from clinimm.serve.errors import Refused
from clinimm.serve.identity import User, user_from_claims
from clinimm.serve.keys import ProviderKeys
from clinimm.serve.sessions import Pending
from clinimm.serve.settings import OidcSettings, is_loopback

CALLBACK = "/signed-in"
_TIMEOUT_S = 10.0
_LARGEST_ANSWER = 1 << 20


class Web(Protocol):
    """How the provider is reached; tests pass one in memory."""

    def get(self, url: str, token: str | None = None) -> dict[str, Any]:
        """A JSON object, asked for with a bearer token or without."""
        ...

    def post(self, url: str, form: Mapping[str, str], auth: tuple[str, str] | None) -> dict[str, Any]:
        """The JSON object that answers a form."""
        ...


class HttpWeb:
    """The provider over HTTP; a redirect is not followed, and an answer is no longer than 1 MiB."""

    def get(self, url: str, token: str | None = None) -> dict[str, Any]:
        """A JSON object."""
        return self._json("GET", url, headers={"Authorization": f"Bearer {token}"} if token else {})

    def post(self, url: str, form: Mapping[str, str], auth: tuple[str, str] | None) -> dict[str, Any]:
        """The JSON object that answers a form."""
        return self._json("POST", url, data=dict(form), auth=auth)

    def _json(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        import httpx2

        try:
            with (
                httpx2.Client(timeout=_TIMEOUT_S, follow_redirects=False) as client,
                client.stream(method, url, **more) as answer,
            ):
                content = b""
                for part in answer.iter_bytes():
                    content += part
                    if len(content) > _LARGEST_ANSWER:
                        raise ValueError("too long")
            value = json.loads(content) if answer.status_code == HTTPStatus.OK else None
        except (httpx2.HTTPError, ValueError, RecursionError) as error:
            raise _provider_trouble("does not answer as it should") from error
        if not isinstance(value, dict):
            raise _provider_trouble(f"answered with status {answer.status_code}")
        return value


class Provider:
    """The hospital's provider.

    Args:
        settings: of the sign-in.
        origin: of this application, ``https://host[:port]``.
        secret: of the client; None for a public client.
        web: how the provider is reached.
    """

    def __init__(self, settings: OidcSettings, origin: str, secret: str | None, web: Web) -> None:
        self.settings, self._secret, self._web = settings, secret, web
        self._callback = origin + CALLBACK
        self._keys = ProviderKeys(lambda: self._web.get(self._metadata["jwks_uri"]))

    @cached_property
    def _metadata(self) -> dict[str, Any]:
        """The discovery document (OIDC Discovery 1.0, section 4), checked."""
        issuer = self.settings.issuer
        found = self._web.get(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise _provider_trouble("says that it is another issuer")
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not _safe(found.get(name)):
                raise _provider_trouble(f"has no safe {name}")
        return found

    def address(self, pending: Pending) -> str:
        """Where the browser goes to sign in."""
        asked = {
            "response_type": "code",
            "client_id": self.settings.client_id,
            "redirect_uri": self._callback,
            "scope": " ".join(self.settings.scopes),
            "state": pending.state,
            "nonce": pending.nonce,
            "code_challenge": challenge(pending.verifier),
            "code_challenge_method": "S256",
        }
        endpoint = str(self._metadata["authorization_endpoint"])
        return endpoint + _joint(endpoint) + urlencode(asked)

    def user(self, answer: Mapping[str, str], pending: Pending) -> User:
        """The person behind the provider's answer, whose ``state`` was checked already.

        Raises:
            Refused: the person declined, the answer comes from another issuer, or the token is
                not valid for this sign-in.
        """
        if "error" in answer or not answer.get("code"):
            raise Refused(
                HTTPStatus.FORBIDDEN, "sign-in-declined", "The sign-in was declined by your provider."
            )
        promised = self._metadata.get("authorization_response_iss_parameter_supported") is True
        if answer.get("iss", None if promised else self.settings.issuer) != self.settings.issuer:  # RFC 9207
            raise _invalid("it came from another issuer")
        tokens = self._exchange(answer["code"], pending)
        claims = self._claims(str(tokens.get("id_token") or ""), pending.nonce)
        settings = self.settings
        wanted = [settings.role_claim.partition(".")[0], "fhirUser"]
        wanted += [settings.site_claim.partition(".")[0]] if settings.site_claim else []
        if any(name not in claims for name in wanted):
            claims = {**self._more(claims, tokens.get("access_token")), **claims}
        return user_from_claims(
            claims, settings.role_claim, settings.roles, settings.require_fhir_user, settings.site_claim
        )

    def way_out(self) -> str | None:
        """Where somebody ends the session at the provider too (OIDC RP-Initiated Logout 1.0).

        Without it the next press on *Sign in* needs no password, which matters on a shared desk.
        """
        try:
            endpoint = self._metadata.get("end_session_endpoint")
        except Refused:
            return None
        if not isinstance(endpoint, str) or not _safe(endpoint):
            return None
        return endpoint + _joint(endpoint) + urlencode({"client_id": self.settings.client_id})

    def _exchange(self, code: str, pending: Pending) -> dict[str, Any]:
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._callback,
            "client_id": self.settings.client_id,
            "code_verifier": pending.verifier,
        }
        # RFC 6749, section 2.3.1: both are encoded before they become a user name and a password.
        auth = (quote(self.settings.client_id, ""), quote(self._secret, "")) if self._secret else None
        return self._web.post(str(self._metadata["token_endpoint"]), form, auth)

    def _claims(self, token: str, nonce: str) -> dict[str, Any]:
        """The claims of an ID token that holds everything that OIDC Core 3.1.3.7 asks for."""
        settings = self.settings
        try:
            decoded = self._decoded(token)
            jwt.JWTClaimsRegistry(
                leeway=settings.leeway_s,
                iss={"essential": True, "value": settings.issuer},
                aud={"essential": True, "value": settings.client_id},
                sub={"essential": True},
                exp={"essential": True},
                iat={"essential": True},
                nonce={"essential": True, "value": nonce},
            ).validate(decoded.claims)
        except (JoseError, ValueError) as error:
            raise _invalid("its token is not valid") from error
        claims = dict(decoded.claims)
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else settings.client_id) != settings.client_id:
            raise _invalid("its token was made for another application")
        return claims

    def _decoded(self, token: str) -> jwt.Token:
        """The token under the provider's keys; keys are asked for again where none of them fits."""
        try:
            return self._under(token, self._keys.current())
        except (InvalidKeyIdError, BadSignatureError):
            keys = self._keys.rotated()
            if keys is None:
                raise
            return self._under(token, keys)

    def _under(self, token: str, keys: KeySet) -> jwt.Token:
        return jwt.decode(token, keys, algorithms=list(self.settings.algorithms))

    def _more(self, claims: Mapping[str, Any], token: Any) -> dict[str, Any]:
        """Claims that the provider tells only on request (OIDC Core 5.3), of the same person."""
        endpoint = self._metadata.get("userinfo_endpoint")
        if not isinstance(token, str) or not _safe(endpoint):
            return {}
        found = self._web.get(str(endpoint), token)
        if found.get("sub") != claims["sub"]:
            raise _invalid("it tells of another person")
        return found


def challenge(verifier: str) -> str:
    """The S256 challenge of a verifier (RFC 7636, section 4.2).

    >>> challenge("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk")
    'E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM'
    """
    digest = hashlib.sha256(verifier.encode("ascii")).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii").rstrip("=")


def _safe(url: object) -> bool:
    """Whether an address of the discovery document may be used: https, or this machine itself."""
    if not isinstance(url, str):
        return False
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname))


def _joint(url: str) -> str:
    return "&" if urlsplit(url).query else "?"


def _provider_trouble(what: str) -> Refused:
    return Refused(HTTPStatus.BAD_GATEWAY, "provider-trouble", f"The sign-in provider {what}.")


def _invalid(why: str) -> Refused:
    return Refused(HTTPStatus.FORBIDDEN, "invalid-sign-in", f"The sign-in is not valid: {why}.")
