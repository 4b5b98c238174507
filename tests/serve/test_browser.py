"""The application as the verb starts it, a real OpenID Connect provider, and Chromium."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from clinimm.serve.access_check import verify_log
from clinimm.serve.feedback import FeedbackTable
from tests.browsing import until
from tests.report.conftest import XSS
from tests.serve.hospital import OTHER, RESEARCH, SLICES, SUBJECT, Hospital, build_hospital

pytestmark = pytest.mark.slow
PATIENT = f"/runs/mock/patients/{SUBJECT}"
PEOPLE = {
    "ada": {"name": "Dr Ada", "roles": ["physicians"], "fhirUser": "Practitioner/ada"},
    "sam": {"name": "Sam", "roles": ["data"]},
    "olga": {"name": "Olga", "roles": ["quality"]},
    "pat": {"name": "Pat", "roles": ["physicians"], "fhirUser": "Patient/pat"},
    "nobody": {"name": "Nobody", "roles": ["football"]},
}


@dataclass
class Place:
    """A running application."""

    address: str
    records: Path
    process: subprocess.Popen[str]
    link: str = ""
    outside: list[str] = field(default_factory=list)


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def wait_for(url: str, process: subprocess.Popen[str]) -> None:
    for _ in range(600):
        if process.poll() is not None:
            raise RuntimeError(f"it ended with {process.returncode}")
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"{url} does not answer")


def started(command: list[str], url: str) -> subprocess.Popen[str]:
    environment = os.environ | {"CLINIMM_OIDC_CLIENT_SECRET": "s3cret/ with signs"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )
    try:
        wait_for(url, process)
    except RuntimeError:
        process.kill()
        raise
    return process


def ended(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()


@pytest.fixture(scope="module")
def provider() -> Iterator[str]:
    if importlib.util.find_spec("oidc_provider_mock") is None:
        pytest.skip("no OpenID Connect provider: pip install oidc-provider-mock")
    port = free_port()
    issuer = f"http://127.0.0.1:{port}"
    users = [json.dumps({"sub": name, **claims}) for name, claims in PEOPLE.items()]
    command = [sys.executable, "-W", "ignore", "-m", "oidc_provider_mock", "-p", str(port)]
    for user in users:
        command += ["--user-claims", user]
    process = started(command, f"{issuer}/.well-known/openid-configuration")
    yield issuer
    ended(process)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, _configuration: None) -> Hospital:
    return build_hospital(tmp_path_factory.mktemp("hostile"), " ".join(XSS))


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Place]]:
    """``serve(hospital, settings)`` starts the verb; without an issuer in single-user mode."""
    places: list[Place] = []

    def start(hospital: Hospital, settings: dict[str, Any], single: bool = False) -> Place:
        folder, port = tmp_path_factory.mktemp("application"), free_port()
        address = f"http://127.0.0.1:{port}"
        (folder / "application.yaml").write_text(json.dumps({"public_url": address, **RESEARCH, **settings}))
        command = [sys.executable, "-m", "clinimm", "serve", str(hospital.runs), "--port", str(port)]
        command += ["--config", str(folder / "application.yaml"), "--records", str(folder / "records")]
        process = started([*command, *(["--single-user"] if single else [])], f"{address}/alive")
        place = Place(address, folder / "records", process)
        places.append(place)
        if single:
            assert process.stdout is not None
            place.link = next(line.split()[-1] for line in process.stdout if line.startswith("open "))
        return place

    yield start
    for place in places:
        ended(place.process)


@pytest.fixture(scope="module")
def single(serve: Callable[..., Place], hostile: Hospital) -> Place:
    return serve(hostile, {"limits": {"pages_per_minute": 2000}}, single=True)


@pytest.fixture(scope="module")
def clinic(serve: Callable[..., Place], hospital: Hospital, provider: str) -> Place:
    oidc = {
        "issuer": provider,
        "client_id": "clinimm",
        "roles": {"physicians": "clinician", "data": "data_scientist", "quality": "auditor"},
    }
    return serve(hospital, {"oidc": oidc, "impression_first": True})


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """``visit(place)`` is a page of a new browser; it must ask nobody else and complain of nothing."""
    opened: list[tuple[Any, Place, list[str]]] = []

    def open_page(place: Place, **options: Any) -> Any:
        context = browser.new_context(**options)
        page, said = context.new_page(), []
        page.set_default_timeout(120_000)  # slow machines are slow, not wrong

        def look(route: Any) -> None:
            url, ours = route.request.url, route.request.frame.url.startswith((place.address, "about:"))
            if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
                if ours:
                    place.outside.append(url)
                route.abort()
            else:
                route.continue_()

        page.route("**/*", look)
        page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        opened.append((context, place, said))
        page.said = said
        return page

    yield open_page
    for context, place, said in opened:
        context.close()
        assert place.outside == []
        refused = re.compile(
            r"status of (40\d|422)|ERR_FAILED|cdn\.jsdelivr"
        )  # asked for on purpose; the mock's style
        assert [text for text in said if not refused.search(text)] == []


def sign_in(page: Any, place: Place, who: str, to: str = "/") -> None:
    page.goto(place.address + to)
    page.locator(f"button[name=sub][value={who}]").click()
    page.wait_for_load_state()


def alone(visit: Callable[..., Any], place: Place, **options: Any) -> Any:
    page = visit(place, **options)
    page.goto(place.link)
    return page


def test_a_clinician_signs_in_says_what_they_think_and_then_sees_the_answer(
    visit: Callable[..., Any], clinic: Place
) -> None:
    page = visit(clinic)
    sign_in(page, clinic, "ada", PATIENT)
    assert page.url == clinic.address + PATIENT  # back where the person wanted to go
    assert "Dr Ada" in page.locator(".bar").inner_text() and "clinician" in page.locator(".bar").inner_text()
    assert page.locator("iframe").count() == 0
    assert page.request.get(f"{clinic.address}{PATIENT}/report").status == 403
    page.fill("#estimate", "35")
    page.click("text=Record, and show")
    report = page.frame_locator("iframe.report")
    report.locator("p.answer").wait_for()
    assert "%" in report.locator("p.answer").inner_text()
    page.check("input[value=object]")
    page.select_option("#reason", "wrong-evidence")
    page.fill("#comment", "The tube, not the lung.")
    page.click("button:text-is('Record')")
    assert "The tube, not the lung." in page.locator("aside.side").inner_text()
    kept = FeedbackTable(clinic.records).rows()
    assert [(row.kind, row.estimate, row.reason) for row in kept] == [
        ("impression", 0.35, None),
        ("object", None, "wrong-evidence"),
    ]
    assert all(row.fhir_user == "Practitioner/ada" for row in kept)
    page.goto(clinic.address + "/runs/mock?feedback=object")
    assert page.locator("tbody tr").count() == 1
    page.click("text=Sign out")
    assert page.request.get(clinic.address + "/api/session").status == 401
    state = verify_log(clinic.records)
    assert state.whole and state.lines >= 6


def test_an_auditor_reads_and_changes_nothing(visit: Callable[..., Any], clinic: Place) -> None:
    page = visit(clinic)
    sign_in(page, clinic, "olga")
    assert page.locator("a[href='/access-log']").count() == 1
    assert page.locator("a[href='/runs/mock']").count() == 0
    page.goto(clinic.address + "/access-log")
    assert "The log is whole" in page.locator("main").inner_text()
    page.goto(clinic.address + "/runs/mock/audit")
    page.frame_locator("iframe").locator("h1").first.wait_for()
    page.goto(clinic.address + "/runs/mock/model-card")
    page.frame_locator("iframe").locator("h1").first.wait_for()
    for path in ("/runs/mock", PATIENT, f"{PATIENT}/report", "/api/runs/mock/predictions"):
        assert page.request.get(clinic.address + path).status == 403


def test_a_data_scientist_sees_answers_and_decides_nothing(visit: Callable[..., Any], clinic: Place) -> None:
    page = visit(clinic)
    sign_in(page, clinic, "sam", f"/runs/mock/patients/{OTHER}")
    page.frame_locator("iframe.report").locator("p.answer").wait_for()
    assert page.locator("form[action$=feedback]").count() == 0
    token = page.request.get(clinic.address + "/api/session").json()["csrf"]
    sent = page.request.post(
        f"{clinic.address}/api{PATIENT}/feedback", data={"verdict": "agree"}, headers={"X-CSRF-Token": token}
    )
    assert sent.status == 403 and page.request.get(clinic.address + "/access-log").status == 403


@pytest.mark.parametrize("who", ["pat", "nobody"])
def test_patients_and_strangers_stay_outside(visit: Callable[..., Any], clinic: Place, who: str) -> None:
    page = visit(clinic)
    sign_in(page, clinic, who)
    assert "nobody gave you a role" in page.locator("main").inner_text()
    assert page.request.get(clinic.address + "/api/session").status == 401


def test_the_series_scrolls_and_its_window_changes_the_pixels(
    visit: Callable[..., Any], single: Place
) -> None:
    page = alone(visit, single)
    page.goto(single.address + PATIENT)
    page.click("aside a[href*='/series/']:has-text('CT')")
    shown = page.locator("#picture")
    grey = "document.getElementById('picture').getContext('2d').getImageData(5, 5, 1, 1).data[0]"
    at = "document.getElementById('picture').dataset.shown"
    until(page, f"{at} === '{SLICES // 2}'")
    middle = page.evaluate(grey)
    shown.focus()
    page.keyboard.press("ArrowDown")
    until(page, f"{at} === '{SLICES // 2 + 1}'")
    assert page.evaluate(grey) == pytest.approx(middle + 30, abs=2)
    page.fill("#index", "1")
    until(page, f"{at} === '0'")
    before = page.evaluate(grey)
    page.fill("#level", "20")
    until(page, f"{grey} !== {before}")
    assert page.evaluate(grey) > before  # a lower level makes everything brighter
    page.click("#reset")
    until(page, f"{grey} === {before}")
    page.click("#invert")
    until(page, f"{grey} === {255 - before}")


def test_the_slide_opens_zooms_and_asks_only_for_its_tiles(visit: Callable[..., Any], single: Place) -> None:
    page = alone(visit, single)
    tiles: list[str] = []
    page.on(
        "response",
        lambda answer: tiles.append(answer.url) if answer.url.endswith(".jpeg") and answer.ok else None,
    )
    page.goto(single.address + PATIENT)
    page.click("aside a[href*='/slides/']")
    page.wait_for_selector("#slide[data-open=yes][data-drawn=yes]")
    far = page.locator("#zoom").inner_text()
    for _ in range(3):
        page.click("#zoom-in")
    page.wait_for_function(f"document.getElementById('zoom').textContent !== {json.dumps(far)}")
    page.wait_for_load_state("networkidle")
    assert tiles and all(f"{PATIENT}/slides/" in url for url in tiles)
    assert page.evaluate(_COLOURS) > 50  # tissue is drawn, not a plain ground


def test_hostile_text_runs_nowhere(visit: Callable[..., Any], single: Place) -> None:
    """Dialogs, console errors and foreign requests would fail in ``visit``."""
    page = alone(visit, single)
    page.goto(single.address + PATIENT)
    page.check("input[value=agree]")
    page.fill("#comment", " ".join(XSS)[:1900])
    page.click("button:text-is('Record')")
    for path in (
        "/",
        "/runs/mock",
        PATIENT,
        f"{PATIENT}/record",
        "/feedback",
        "/access-log",
        f"{PATIENT}/report",
    ):
        page.goto(single.address + path)
        page.mouse.move(300, 300)
        page.keyboard.press("Tab")
        assert (
            page.evaluate("document.querySelectorAll('main script, main img[onerror], [onload]').length") == 0
        )


def test_the_report_in_its_frame_cannot_reach_the_application(
    visit: Callable[..., Any], single: Place
) -> None:
    page = alone(visit, single)
    page.goto(single.address + PATIENT)
    page.frame_locator("iframe.report").locator("p.answer").wait_for()
    inner = next(frame for frame in page.frames if frame.url.endswith("/report"))
    banner = "getComputedStyle(document.querySelector('.banner')).display"
    assert (page.evaluate(banner), inner.evaluate(banner)) == ("block", "none"), "it stands once"
    tried = inner.evaluate(
        "() => { try { return String(parent.document.body.innerHTML.length) } catch (e) { return e.name } }"
    )
    assert tried == "SecurityError"
    assert (
        inner.evaluate("() => { try { return document.cookie } catch (e) { return e.name } }")
        == "SecurityError"
    )


_COLOURS = """() => {
  const canvas = document.querySelector("#slide canvas");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  const seen = new Set();
  for (let at = 0; at < data.length; at += 400) seen.add([data[at], data[at + 1], data[at + 2]].join());
  return seen.size;
}"""
PAGES = {
    "runs": "/",
    "worklist": "/runs/mock?refusals=none",
    "patient": PATIENT,
    "record": f"{PATIENT}/record",
    "series": "series",
    "slide": "slide",
    "card": "/runs/mock/model-card",
    "audit": "/runs/mock/audit",
    "feedback": "/feedback",
    "log": "/access-log",
    "refused": "/runs/none",
}


def opened(page: Any, place: Place, name: str) -> None:
    if name in ("series", "slide"):
        page.goto(place.address + PATIENT)
        page.click("aside a[href*='/series/'] >> nth=0" if name == "series" else "aside a[href*='/slides/']")
    else:
        page.goto(place.address + PAGES[name])
    page.wait_for_load_state("networkidle")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(
    visit: Callable[..., Any],
    serve: Callable[..., Place],
    hospital: Hospital,
    single: Place,
    scheme: str,
    width: int,
) -> None:
    """WCAG 2.2 A and AA, on our pages and on what they frame."""
    found = importlib.util.find_spec("axe_playwright_python")
    if found is None or found.origin is None:
        pytest.skip("no axe-core: pip install axe-playwright-python")
    axe = Path(found.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    page = alone(visit, single, color_scheme=scheme, viewport={"width": width, "height": 900})
    wrong = []
    for name in PAGES:
        opened(page, single, name)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        page.evaluate(axe)
        rules = "['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice']"
        result = page.evaluate(f"axe.run(document, {{runOnly: {rules}, iframes: false}})")
        wrong += [
            (name, one["id"], node["target"], node["failureSummary"][:200])
            for one in result["violations"]
            for node in one["nodes"]
        ]
        shots = os.environ.get("CLINIMM_SCREENSHOTS")
        if shots:
            page.screenshot(path=f"{shots}/{name}-{scheme}-{width}.png")
    assert wrong == []


def test_the_server_speaks_tls_by_itself(
    serve: Callable[..., Place], hospital: Hospital, tmp_path_factory: pytest.TempPathFactory
) -> None:
    import ssl

    folder, port = tmp_path_factory.mktemp("tls"), free_port()
    certificate, key = certificate_for_this_machine(folder)
    address = f"https://127.0.0.1:{port}"
    settings = {
        "public_url": address,
        "blocked_runs": "show",
        "tls": {"certificate": str(certificate), "key": str(key)},
        "oidc": {"issuer": "https://id.example", "client_id": "c", "roles": {"x": "auditor"}},
    }
    (folder / "application.yaml").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "clinimm", "serve", str(hospital.runs), "--port", str(port)]
    command += ["--config", str(folder / "application.yaml"), "--records", str(folder / "records")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    trust = ssl.create_default_context(cafile=str(certificate))
    try:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("open "))
        for _ in range(100):
            try:
                answer = urllib.request.urlopen(f"{address}/alive", timeout=2, context=trust)
                break
            except OSError:
                time.sleep(0.1)
        assert answer.read() == b"ok\n" and "max-age" in answer.headers["strict-transport-security"]
        with pytest.raises(OSError):  # the same port speaks nothing else
            urllib.request.urlopen(f"http://127.0.0.1:{port}/alive", timeout=2)
    finally:
        ended(process)


def certificate_for_this_machine(folder: Path) -> tuple[Path, Path]:
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    secret, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "clinimm test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False
        )
        .sign(secret, hashes.SHA256())
    )
    certificate, key = folder / "cert.pem", folder / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return certificate, key
