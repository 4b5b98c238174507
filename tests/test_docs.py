"""What the documentation says is so: links, verbs, settings, examples and tables against the code."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest
import typer
from pydantic import BaseModel

from clinimm.audit.policy import load_policy
from clinimm.audit.waiver import load_waivers
from clinimm.cli.app import app
from clinimm.cohort.spec import CohortSpec, load_cohort
from clinimm.config import PipelineConfig, load_pipeline
from clinimm.core.errors import Refusal
from clinimm.core.event import EVENT_COLUMNS
from clinimm.core.prediction import PREDICTION_COLUMNS
from clinimm.core.record import RunRecord
from clinimm.evaluate.stage import SCHEMA_FILE
from clinimm.explain.check import CHECKS
from clinimm.explain.promise import PROMISES
from clinimm.explain.tables import RELEASE_TABLES, TABLES
from clinimm.governance.cards.card import load_card
from clinimm.monitor.plan import load_plan
from clinimm.register.registration import Registration
from clinimm.serve.access_log import Entry
from clinimm.serve.feedback import REASONS, Feedback

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "governance/**/*.md", "benchmarks/*.md", "changelog.d/*.md")
    for path in ROOT.glob(pattern)
)
READMES = sorted(ROOT.glob("clinimm/**/README.md"))
GROUP = typer.main.get_command(app)

_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\((?!\w+:)([^)\s]+)\)")
_CODE = re.compile(r"`([^`\n]+)`")
_COMMAND = re.compile(r"^\$?\s*(?:\.venv/bin/)?clinimm ([a-z]+(?:-[a-z]+)*)(.*)$")
_PLACE = re.compile(r"^(clinimm|tests|pipelines|governance|docs|scripts|notebooks)/[\w./-]+$")
_SECTION = re.compile(
    r"^(?:modalities|ingest|encode|model|train|evaluate|explain|audit|register|report)\.[\w.]+$"
)
_FILES = (".parquet", ".json", ".safetensors", ".html", ".npy", ".svg", ".py", ".yaml", ".md")

#: What a fragment of a pipeline or cohort file is completed with before the real loader reads it.
_PIPELINE = "name: example\n"
_COHORT = {
    "name": "name: example",
    "question": "question: Is it so?",
    "index": "index: {modality: radiology}",
    "label": "label: {task: x, code: outcome//x, value: true, window: [0 d, 1 d]}",
    "inputs": "inputs: {ehr: {}}",
}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(language: str) -> list[Any]:
    """Every fenced block of a language, as test parameters."""
    found = []
    for page in (*PAGES, *READMES):
        for number, match in enumerate(_FENCE.finditer(page.read_text(encoding="utf-8"))):
            if match[1] == language:
                found.append(pytest.param(match[2], id=f"{name_of(page)}:{number}"))
    return found


def prose(page: Path) -> str:
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def commands() -> Iterator[tuple[str, str, str]]:
    """Page, verb and the rest of every command line that is shown."""
    for page in (*PAGES, *READMES):
        text = page.read_text(encoding="utf-8")
        lines = [line for match in _FENCE.finditer(text) for line in match[2].splitlines()]
        for line in (*lines, *_CODE.findall(prose(page))):
            if found := _COMMAND.match(line.strip()):
                yield name_of(page), found[1], found[2].partition(" #")[0]


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=name_of)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in _LINK.findall(prose(page)):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{link}: there is no {path}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{link}: {path.name} has no such heading"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    kept = (re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower() for heading in headings)
    return {re.sub(r"[\s]+", "-", heading) for heading in kept}


@pytest.mark.parametrize("page", [*PAGES, *READMES], ids=name_of)
def test_every_file_that_is_named_exists(page: Path) -> None:
    for text in _CODE.findall(prose(page)):
        if _PLACE.match(text) and "*" not in text:
            assert (ROOT / text).exists() or text.startswith("governance/releases"), text


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_examples_are_read_by_the_real_loaders(text: str, tmp_path: Path) -> None:
    keys = set(re.findall(r"^(\w+):", text, re.MULTILINE))
    file = tmp_path / "example.yaml"
    if "waivers" in keys:
        file.write_text(text)
        assert load_waivers(file)
    elif "schema: clinimm.card/1" in text:
        file.write_text(text)
        assert load_card([file])
    elif "clinimm.monitoring/" in text:
        file.write_text(text)
        assert load_plan(file).minimum
    elif "schema" in keys:
        file.write_text(text)
        assert load_policy(file).rules
    elif keys <= set(CohortSpec.model_fields) and keys != {"name"}:
        file.write_text("\n".join([text, *(line for key, line in _COHORT.items() if key not in keys)]))
        assert load_cohort(file).question
    else:
        file.write_text(text if "name" in keys else _PIPELINE + text)
        assert load_pipeline(file).name


@pytest.mark.parametrize("text", blocks("python"))
def test_python_examples_compile_and_import_what_exists(text: str) -> None:
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("clinimm"):
            known = defined(str(node.module))
            assert {alias.name for alias in node.names} <= known, ast.unparse(node)


def defined(module: str) -> set[str]:
    """Names at the top of a module, read and not imported: some would bring torch."""
    path = ROOT / Path(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names = (name for target in targets for name in ast.walk(target))
            found |= {name.id for name in names if isinstance(name, ast.Name)}
    return found


def test_every_verb_and_option_that_is_shown_exists() -> None:
    shown = list(commands())
    assert {verb for _, verb, _ in shown} >= {"run", "ingest", "cohort", "validate", "simulate", "explain"}
    for page, verb, rest in shown:
        assert verb in GROUP.commands, f"{page}: clinimm {verb}"
        command = GROUP.commands[verb]
        if inner := getattr(command, "commands", None):
            word = (rest.split() or [""])[0]
            assert not word or word in inner, f"{page}: clinimm {verb} {word}"
            command = inner.get(word, command)
        known = {name for one in command.params for name in one.opts} | {"-h", "--help"}
        for option in re.findall(r"(?<!\S)(--?[a-z][\w-]*)", rest):
            assert option in known, f"{page}: clinimm {verb} {option}"


def test_every_verb_is_named_in_the_readme_or_the_site() -> None:
    shown = {verb for _, verb, _ in commands()}
    assert set(GROUP.commands) - shown <= {"version", "encode", "predict", "register", "evaluate"}


def test_every_setting_that_is_named_exists() -> None:
    named = {
        match
        for page in (*PAGES, *READMES)
        for match in re.findall(r"--set ([\w.]+)=", page.read_text(encoding="utf-8"))
    }
    for page in PAGES:
        found = {text for text in _CODE.findall(prose(page)) if _SECTION.match(text)}
        named |= {text for text in found if not text.endswith(_FILES)}
    assert "modalities.radiology.encoder.name" in named
    for key in sorted(named):
        assert exists(PipelineConfig, key.split(".")), key


def exists(model: type[BaseModel], parts: list[str]) -> bool:
    """Whether a dotted key leads to a setting; what lies in ``options`` is the encoder's own."""
    known = {field.alias or name: field for name, field in model.model_fields.items()}
    if parts[0] not in known:
        return False
    if len(parts) == 1:
        return True
    annotation = known[parts[0]].annotation
    inner = [one for one in (annotation, *get_args(annotation)) if inspect.isclass(one)]
    models = [one for one in inner if issubclass(one, BaseModel)]
    rest = parts[2:] if dict in (annotation, getattr(annotation, "__origin__", None)) else parts[1:]
    return not models or not rest or exists(models[0], rest)


def test_make_targets_that_are_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        named = re.findall(r"(?:`|^)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.MULTILINE)
        assert set(named) <= targets, name_of(page)


def rows(heading: str) -> list[str]:
    """First cells of the table under a heading of the files reference."""
    text = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    section = re.split(r"^#+ ", text.partition(f"# {heading}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    cells = re.findall(r"^\| (.+?) \|", section, re.MULTILINE)
    return [name for cell in cells[1:] for name in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("events.parquet", list(EVENT_COLUMNS)),
        ("refusals.parquet", [field.name for field in fields(Refusal)]),
        ("predictions.parquet", list(PREDICTION_COLUMNS)),
        *((f"{name}.parquet", list(columns)) for name, (columns, _) in TABLES.items()),
        *((f"{name}.parquet", list(columns)) for name, columns in RELEASE_TABLES.items()),
        ("record.json", [field.name for field in fields(RunRecord)]),
    ],
)
def test_tables_of_the_files_reference_are_the_code_s(heading: str, columns: list[str]) -> None:
    assert rows(heading) == columns


def test_the_records_of_the_application_are_documented() -> None:
    line = {"number", "time", *(field.name for field in fields(Entry)), "previous", "digest"}
    assert set(rows("access.jsonl")) == line
    assert set(rows("feedback")) == {"number", *(field.name for field in fields(Feedback)), "digest"}
    text = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    assert all(f"`{reason}`" in text for reason in REASONS)


def test_methods_and_checks_of_the_explanations_page_are_the_code_s() -> None:
    page = (ROOT / "docs" / "concepts" / "explanations.md").read_text(encoding="utf-8")
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line[:1] == "|"
    ]
    named = {cells[0].strip("`"): cells for cells in lines}
    for name, promise in PROMISES.items():
        _, sums, unit, role, _ = named[name]
        assert (sums.startswith("yes"), unit, role.strip("*")) == (promise.sums, promise.unit, promise.role)
    rules = {rule.check: rule for rule in load_policy(ROOT / "governance" / "policy.yaml").explanations.rules}
    known = {
        name: cells for cell, cells in named.items() for name in re.findall(r"\w+", cell) if name in CHECKS
    }
    assert set(known) == set(CHECKS)
    for name, (*_, limit, fails) in known.items():
        rule = rules.get(name)
        found = re.search(r"[\d.]+$", limit)
        assert (found and float(found[0])) == (rule and rule.limit), name
        assert fails.replace(" ", "_") == (rule.fails if rule else ""), name


def test_metrics_and_registration_keys_are_documented() -> None:
    schema = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
    assert set(schema["properties"]) == set(rows("metrics.json"))
    text = (ROOT / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
    for field in fields(Registration):
        assert f"`{field.name}`" in text, field.name


def test_every_refusal_code_is_explained() -> None:
    text = (ROOT / "docs" / "how-to" / "read-refusals.md").read_text(encoding="utf-8")
    explained = {
        code for row in re.findall(r"^\| (`.+?) \|", text, re.MULTILINE) for code in _CODE.findall(row)
    }
    assert refusal_codes() == explained


def refusal_codes() -> set[str]:
    """Every code that the source refuses something with."""
    places = {"InputRejected": 0, "refused": 1, "_refuse": 1, "refuse": 1, "_damaged": 0}
    found = {"orphan", "cannot-open"}  # handed on through tables: ingest/people.py, pathology/slide.py
    for path in (ROOT / "clinimm").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call):
                called = getattr(node.func, "attr", getattr(node.func, "id", ""))
                given = node.args[places[called] :] if called in places else []
                found |= {one.value for one in given[:1] if isinstance(one, ast.Constant)}
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "reason":
                found |= (
                    {str(ast.literal_eval(node.value.elts[0]))}
                    if isinstance(node.value, ast.Tuple)
                    else set()
                )
    return found


def test_every_room_has_its_page() -> None:
    rooms = {path.parent.name for path in (ROOT / "clinimm").glob("*/__init__.py")}
    text = "\n".join(page.read_text() for page in (ROOT / "docs" / "reference" / "package").glob("*.md"))
    missing = {room for room in rooms if f"clinimm.{room}" not in text}
    assert missing <= {"cli"}  # its page is made from its commands
    for path in (ROOT / "clinimm").glob("[a-z]*.py"):
        assert f"::: clinimm.{path.stem}\n" in text, path.name


@pytest.mark.slow
def test_documentation_builds_without_a_network(tmp_path: Path) -> None:
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "reference" / "pipeline-file.html").read_text(encoding="utf-8")
    assert "encoder_learning_rate" in page
    for html in tmp_path.rglob("*.html"):
        loaded = re.findall(r'(?:src|<link [^>]*href)="(https?:[^"]+)"', html.read_text(encoding="utf-8"))
        assert not loaded, f"{html.name} loads {loaded[0]}"
