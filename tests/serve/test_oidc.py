"""What the sign-in must refuse, with tokens made by an independent signer in memory."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, OctKey, RSAKey

from clinimm.serve.errors import Refused
from clinimm.serve.identity import Role, fhir_user, user_from_claims
from clinimm.serve.keys import ProviderKeys
from clinimm.serve.oidc import HttpWeb, Provider, challenge
from clinimm.serve.sessions import Pending, Sessions
from clinimm.serve.settings import OidcSettings
from tests.serve.hospital import Hospital, make_client

ISSUER, CLIENT = "https://id.example", "clinimm"
RSA = RSAKey.generate_key(2048, {"kid": "one", "use": "sig"})
OTHER = RSAKey.generate_key(2048, {"kid": "two", "use": "sig"})
EC = ECKey.generate_key("P-256", {"kid": "ec", "use": "sig"})
SETTINGS = OidcSettings(
    issuer=ISSUER,
    client_id=CLIENT,
    roles={"physician": Role.CLINICIAN, "audit": Role.AUDITOR, "science": Role.DATA_SCIENTIST},
)
PENDING = Pending("state", "nonce-1", "v" * 64, "/", 0.0)


class FakeWeb:
    """A provider in memory."""

    def __init__(self, *keys: Any) -> None:
        self.keys = KeySet(list(keys or (RSA,)))
        self.tokens: dict[str, Any] = {}
        self.userinfo: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {
            "issuer": ISSUER,
            "authorization_endpoint": f"{ISSUER}/authorize",
            "token_endpoint": f"{ISSUER}/token",
            "jwks_uri": f"{ISSUER}/keys",
            "userinfo_endpoint": f"{ISSUER}/me",
        }
        self.asked: list[str] = []
        self.form: Mapping[str, str] = {}
        self.auth: tuple[str, str] | None = None

    def get(self, url: str, token: str | None = None) -> dict[str, Any]:
        self.asked.append(url)
        if url.endswith("openid-configuration"):
            return self.metadata
        return self.userinfo if url.endswith("/me") else dict(self.keys.as_dict(private=False))

    def post(self, url: str, form: Mapping[str, str], auth: tuple[str, str] | None) -> dict[str, Any]:
        self.form, self.auth = form, auth
        return self.tokens


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    found = {
        "iss": ISSUER, "aud": CLIENT, "sub": "42", "iat": now, "exp": now + 300, "nonce": "nonce-1",
        "roles": ["physician", "football"], "fhirUser": "Practitioner/42", "name": "Dr Ada",
    } | changes  # fmt: skip
    return {key: value for key, value in found.items() if value is not None}


def token(content: Mapping[str, Any], key: Any = RSA, algorithm: str = "RS256", kid: str | None = "") -> str:
    header = {"alg": algorithm, "kid": key.kid if kid == "" else kid}
    return jwt.encode({k: v for k, v in header.items() if v}, dict(content), key, algorithms=[algorithm])


def provider(web: FakeWeb, **changes: Any) -> Provider:
    return Provider(SETTINGS.model_copy(update=changes), "https://here.example", None, web)


def signed_in(web: FakeWeb, id_token: str, **answer: str) -> Any:
    web.tokens = {"id_token": id_token, "access_token": "at"}
    return provider(web).user({"code": "c", "state": "state", **answer}, PENDING)


def test_a_valid_token_names_the_person_and_only_known_roles() -> None:
    web = FakeWeb()
    user = signed_in(web, token(claims()))
    assert user.identifier == f"{ISSUER}|42" and user.name == "Dr Ada"
    assert user.fhir_user == "Practitioner/42" and user.roles == {Role.CLINICIAN}
    assert web.form["code_verifier"] == PENDING.verifier and web.form["redirect_uri"].endswith("/signed-in")


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://evil.example"},
        {"iss": None},
        {"aud": "another"},
        {"aud": None},
        {"aud": [CLIENT, "another"]},  # several audiences, and no azp that says it is ours
        {"aud": [CLIENT, "another"], "azp": "another"},
        {"azp": "another"},
        {"exp": 1},
        {"exp": None},
        {"iat": None},
        {"iat": 4_000_000_000},
        {"nbf": 4_000_000_000},
        {"sub": None},
        {"nonce": "another"},
        {"nonce": None},
    ],
    ids=str,
)
def test_a_token_for_anything_else_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        signed_in(FakeWeb(), token(claims(**changes)))
    assert refused.value.code == "invalid-sign-in"


@pytest.mark.filterwarnings("ignore:JWS algorithm")
def test_a_token_that_nobody_signed_is_refused() -> None:
    head, body, _ = token(claims()).split(".")
    none = jwt.encode({"alg": "none"}, claims(), OctKey.import_key("x" * 32), algorithms=["none"])
    for bad in (f"{head}.{body}.", f"{head}.{body}.AAAA", none, "", "a.b.c"):
        with pytest.raises(Refused):
            signed_in(FakeWeb(), bad)


def test_the_public_key_is_no_shared_secret() -> None:
    """CVE-2016-10555 and its kin: an RSA public key taken for an HMAC key."""

    def part(value: bytes) -> bytes:
        return base64.urlsafe_b64encode(value).rstrip(b"=")

    head = part(b'{"alg":"HS256","kid":"one"}') + b"." + part(json.dumps(claims()).encode())
    mark = part(hmac.new(RSA.as_pem(private=False), head, hashlib.sha256).digest())
    with pytest.raises(Refused):
        signed_in(FakeWeb(), (head + b"." + mark).decode())


def test_a_symmetric_key_of_the_provider_is_not_used() -> None:
    secret = OctKey.generate_key(256, {"kid": "shared"})
    web = FakeWeb(RSA, secret)
    with pytest.raises(Refused):
        signed_in(web, jwt.encode({"alg": "HS256", "kid": "shared"}, claims(), secret, algorithms=["HS256"]))


def test_only_public_keys_for_signatures_are_kept() -> None:
    shared = OctKey.generate_key(256, {"kid": "shared"})
    other_use = RSAKey.generate_key(2048, {"kid": "wrap", "use": "enc"})
    given = [RSA.as_dict(private=False), EC.as_dict(private=False), shared.as_dict(private=True)]
    given += [OTHER.as_dict(private=True), other_use.as_dict(private=False)]
    kept = ProviderKeys(lambda: {"keys": given}).current()
    assert [key.kid for key in kept.keys] == ["one", "ec"]


def test_another_signature_that_is_allowed_works() -> None:
    assert signed_in(FakeWeb(EC), token(claims(), EC, "ES256")).roles == {Role.CLINICIAN}


def test_keys_are_asked_for_again_after_a_rotation() -> None:
    web, clock = FakeWeb(RSA), [0.0]
    signer = provider(web)
    signer._keys._clock = lambda: clock[0]
    web.tokens = {"id_token": token(claims())}
    signer.user({"code": "c"}, PENDING)
    web.keys, web.tokens = KeySet([OTHER]), {"id_token": token(claims(), OTHER)}
    with pytest.raises(Refused):  # within ten seconds bad tokens fetch nothing
        signer.user({"code": "c"}, PENDING)
    clock[0] = 60.0
    assert signer.user({"code": "c"}, PENDING).subject == "42"
    assert web.asked.count(f"{ISSUER}/keys") == 2
    web.tokens = {"id_token": token(claims())}  # the old key is no longer good
    clock[0] = 120.0
    with pytest.raises(Refused):
        signer.user({"code": "c"}, PENDING)


def test_bad_tokens_do_not_make_us_ask_the_provider_again_and_again() -> None:
    fetched = []
    known = dict(KeySet([RSA]).as_dict(private=False))
    keys = ProviderKeys(lambda: fetched.append(1) or known, clock=lambda: 5.0)
    keys.current()
    assert keys.rotated() is None and keys.rotated() is None and len(fetched) == 1


def test_an_answer_of_another_issuer_is_refused() -> None:
    """RFC 9207: the mix-up of two providers."""
    with pytest.raises(Refused, match="another issuer"):
        signed_in(FakeWeb(), token(claims()), iss="https://evil.example")


def test_claims_that_only_userinfo_tells_are_taken_from_the_same_person() -> None:
    web = FakeWeb()
    web.userinfo = {"sub": "42", "roles": "audit", "fhirUser": "https://fhir.example/Practitioner/42"}
    user = signed_in(web, token(claims(roles=None, fhirUser=None)))
    assert user.roles == {Role.AUDITOR} and user.fhir_user == "https://fhir.example/Practitioner/42"
    web.userinfo["sub"] = "43"
    with pytest.raises(Refused, match="another person"):
        signed_in(web, token(claims(roles=None)))


def test_userinfo_does_not_overrule_the_token() -> None:
    web = FakeWeb()
    web.userinfo = {"sub": "42", "roles": ["audit"], "name": "Mallory", "fhirUser": "Practitioner/1"}
    user = signed_in(web, token(claims(fhirUser=None)))
    assert user.roles == {Role.CLINICIAN} and user.name == "Dr Ada" and user.fhir_user == "Practitioner/1"


@pytest.mark.parametrize(
    ("name", "value"),
    [("issuer", "https://evil.example"), ("jwks_uri", "http://evil.example/keys"), ("token_endpoint", None)],
)
def test_a_discovery_document_that_is_not_safe_is_refused(name: str, value: str | None) -> None:
    web = FakeWeb()
    web.metadata[name] = value
    with pytest.raises(Refused) as refused:
        provider(web).address(PENDING)
    assert refused.value.code == "provider-trouble"


def test_the_browser_is_sent_with_pkce_state_and_nonce() -> None:
    asked = parse_qs(urlsplit(provider(FakeWeb()).address(PENDING)).query)
    assert asked["code_challenge_method"] == ["S256"] and asked["response_type"] == ["code"]
    assert asked["code_challenge"] == [challenge(PENDING.verifier)]
    assert (asked["state"], asked["nonce"]) == ([PENDING.state], [PENDING.nonce])
    assert asked["scope"] == ["openid profile fhirUser"]


@pytest.mark.parametrize(
    ("changes", "roles"),
    [
        ({"roles": []}, set()),
        ({"roles": None}, set()),
        ({"roles": {"physician": True}}, set()),
        ({"roles": [["physician"], 3]}, set()),
        ({"roles": "physician"}, {Role.CLINICIAN}),
        ({"fhirUser": "Patient/42"}, set()),
        ({"fhirUser": "RelatedPerson/42"}, set()),
        ({"fhirUser": "Practitioner/42/_history/<script>"}, set()),
        ({"fhirUser": "Patient/42/_history/1"}, set()),
        ({"fhirUser": ["Patient/42"]}, set()),
        ({"fhirUser": ""}, {Role.CLINICIAN}),
    ],
    ids=str,
)
def test_roles_are_denied_by_default(changes: dict[str, Any], roles: set[Role]) -> None:
    assert user_from_claims(claims(**changes), "roles", SETTINGS.roles).roles == roles


def test_roles_may_lie_deeper_as_keycloak_has_them() -> None:
    given = claims(roles=None, realm_access={"roles": ["science"]})
    assert user_from_claims(given, "realm_access.roles", SETTINGS.roles).roles == {Role.DATA_SCIENTIST}


def test_people_without_fhir_user_can_be_refused() -> None:
    assert user_from_claims(claims(fhirUser=None), "roles", SETTINGS.roles, True).roles == set()
    assert user_from_claims(claims(), "roles", SETTINGS.roles, True).roles == {Role.CLINICIAN}


@pytest.mark.parametrize(
    "value", [None, 3, "", "Practitioner/", "x Practitioner/1", "Practitioner/1\n", "Device/1"]
)
def test_what_is_no_reference_is_no_fhir_user(value: object) -> None:
    assert fhir_user(value) is None


def test_an_answer_is_taken_once_in_time_and_with_its_state() -> None:
    now = [0.0]
    sessions = Sessions(60, 600, clock=lambda: now[0])
    name, pending = sessions.begin("/x")
    with pytest.raises(Refused, match="another sign-in"):
        sessions.finish(name, "wrong")
    with pytest.raises(Refused, match="expired"):  # that attempt used it up
        sessions.finish(name, pending.state)
    name, pending = sessions.begin("/x")
    assert sessions.finish(name, pending.state).target == "/x"
    with pytest.raises(Refused, match="expired"):
        sessions.finish(name, pending.state)
    name, pending = sessions.begin("/x")
    now[0] = 700.0
    with pytest.raises(Refused, match="expired"):
        sessions.finish(name, pending.state)


def test_sessions_end_by_themselves_and_on_request() -> None:
    now = [0.0]
    sessions = Sessions(60, 600, clock=lambda: now[0])
    user = user_from_claims(claims(), "roles", SETTINGS.roles)
    name, _ = sessions.open(user)
    for _ in range(20):
        now[0] += 29
        assert (sessions.find(name) is None) == (now[0] > 600)
    name, _ = sessions.open(user)
    now[0] += 61
    assert sessions.find(name) is None
    name, _ = sessions.open(user)
    sessions.close(name)
    assert sessions.find(name) is None and sessions.find("") is None


@pytest.mark.parametrize(("late", "fits"), [(20, True), (45, False)])
def test_clocks_may_differ_a_little(late: int, fits: bool) -> None:
    sent = token(claims(exp=int(time.time()) - late))
    if fits:
        assert signed_in(FakeWeb(), sent).subject == "42"
    else:
        with pytest.raises(Refused):
            signed_in(FakeWeb(), sent)


def test_a_provider_that_names_itself_in_each_answer_must_do_so() -> None:
    """RFC 9207, section 2.4: an answer without ``iss`` is then another provider's."""
    web = FakeWeb()
    web.metadata["authorization_response_iss_parameter_supported"] = True
    with pytest.raises(Refused, match="another issuer"):
        signed_in(web, token(claims()))
    assert signed_in(web, token(claims()), iss=ISSUER).subject == "42"


@pytest.mark.parametrize(
    ("endpoint", "address"),
    [
        (f"{ISSUER}/logout", f"{ISSUER}/logout?client_id=clinimm"),
        (f"{ISSUER}/logout?a=1", f"{ISSUER}/logout?a=1&client_id=clinimm"),
        ("http://evil.example/logout", None),
        ("javascript:alert(1)", None),
        (None, None),
    ],
)
def test_a_shared_desk_is_led_out_of_the_provider_too(endpoint: str | None, address: str | None) -> None:
    web = FakeWeb()
    web.metadata["end_session_endpoint"] = endpoint
    assert provider(web).way_out() == address


@pytest.mark.parametrize(
    ("given", "sites"),
    [(["north", "south"], {"north", "south"}), ("north", {"north"}), (None, set()), ({"north": 1}, set())],
)
def test_sites_come_from_a_claim_and_none_is_none(given: object, sites: set[str]) -> None:
    user = user_from_claims(claims(wards=given), "roles", SETTINGS.roles, site_claim="wards")
    assert user.sites == sites
    assert user_from_claims(claims(wards=given), "roles", SETTINGS.roles).sites is None


def test_sites_may_be_told_by_userinfo_alone() -> None:
    web = FakeWeb()
    web.userinfo, web.tokens = (
        {"sub": "42", "wards": ["north"]},
        {"id_token": token(claims()), "access_token": "a"},
    )
    assert provider(web, site_claim="wards").user({"code": "c"}, PENDING).sites == {"north"}


@pytest.mark.parametrize(
    ("content", "status", "fits"),
    [(b'{"a": 1}', 200, True), (b"[1]", 200, False), (b"{", 200, False), (b'{"a": 1}', 302, False),
     (b'"' + b"x" * (1 << 20) + b'"', 200, False), (b'{"a": "' + b"x" * (1 << 20) + b'"}', 200, False)],
    ids=["object", "list", "broken", "redirect", "long", "long-object"],
)  # fmt: skip
def test_an_answer_of_the_provider_is_one_small_object(content: bytes, status: int, fits: bool) -> None:
    from http.server import BaseHTTPRequestHandler, HTTPServer
    from threading import Thread

    class Answers(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Location", "http://127.0.0.1:9/")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(content)

        def log_message(self, *given: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Answers)
    Thread(target=server.handle_request, daemon=True).start()
    try:
        if fits:
            assert HttpWeb().get(f"http://127.0.0.1:{server.server_port}/") == {"a": 1}
        else:
            with pytest.raises(Refused):
                HttpWeb().get(f"http://127.0.0.1:{server.server_port}/")
    finally:
        server.server_close()


def test_the_whole_way_sets_a_safe_cookie_and_enters_who_came(
    hospital: Hospital, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinimm.serve.app import open_office
    from clinimm.serve.settings import ServeSettings

    web = FakeWeb()
    settings = ServeSettings(
        public_url="https://here.example", oidc=SETTINGS, blocked_runs="show", unapproved_runs="research"
    )
    office = open_office(hospital.runs, settings, tmp_path, web)
    client = TestClient(make_client(office).app, base_url="https://here.example", follow_redirects=False)
    first = client.get("/sign-in?to=//evil.example")
    asked = parse_qs(urlsplit(first.headers["location"]).query)
    assert all(word in first.headers["set-cookie"] for word in ("HttpOnly", "Secure", "SameSite=lax"))
    web.tokens = {"id_token": token(claims(nonce=asked["nonce"][0])), "access_token": "at"}
    back = f"/signed-in?code=c&state={asked['state'][0]}"
    done = client.get(back)
    assert done.status_code == 303 and done.headers["location"] == "/"
    cookie = next(value for value in done.headers.get_list("set-cookie") if "__Host-clinimm=" in value)
    assert all(word in cookie for word in ("HttpOnly", "Secure", "SameSite=lax", "Path=/"))
    assert client.get("/api/session").json()["fhir_user"] == "Practitioner/42"
    assert client.get(back).status_code == 400  # played again
    old = client.cookies["__Host-clinimm"]
    asked = parse_qs(urlsplit(client.get("/sign-in").headers["location"]).query)
    web.tokens = {"id_token": token(claims(nonce=asked["nonce"][0]))}
    assert client.get(f"/signed-in?code=c&state={asked['state'][0]}").status_code == 303
    assert client.cookies["__Host-clinimm"] != old
    assert office.sessions.find(old) is None  # signing in again ends what was there
    web.metadata["end_session_endpoint"] = f"{ISSUER}/logout"
    office.provider.__dict__["_metadata"] = web.metadata
    assert client.get("/runs/mock").headers["strict-transport-security"]
    csrf = client.get("/api/session").json()["csrf"]
    out = client.post("/sign-out", data={"csrf": csrf})
    assert out.status_code == 200 and f"{ISSUER}/logout?client_id=clinimm" in out.text
    assert client.get("/api/session").status_code == 401
    log = office.log.path.read_text()
    assert '"action":"sign-in"' in log and '"code":"sign-in-expired"' in log and "nonce" not in log


def test_somebody_without_a_role_stays_outside(hospital: Hospital, tmp_path: Any) -> None:
    from clinimm.serve.app import open_office
    from clinimm.serve.settings import ServeSettings

    web = FakeWeb()
    settings = ServeSettings(
        public_url="https://here.example", oidc=SETTINGS, blocked_runs="show", unapproved_runs="research"
    )
    office = open_office(hospital.runs, settings, tmp_path, web)
    client = TestClient(make_client(office).app, base_url="https://here.example", follow_redirects=False)
    asked = parse_qs(urlsplit(client.get("/sign-in").headers["location"]).query)
    web.tokens = {"id_token": token(claims(nonce=asked["nonce"][0], roles=["football"]))}
    answer = client.get(f"/signed-in?code=c&state={asked['state'][0]}")
    assert answer.status_code == 403 and "no-role" in answer.text
    assert client.get("/api/session").status_code == 401
