"""Whether a test that a control names is there, is collected, and how it went."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree

from clinimm.core.errors import ConfigError, DataError

PASSED, SKIPPED, FAILED = "passed", "skipped", "failed"
_RANK = (PASSED, SKIPPED, FAILED)


def missing_reason(root: Path, node: str) -> str:
    """Why a test is not one that pytest would run; empty where it is.

    Read from the source, without importing it: a test file may bring torch.

    Args:
        root: of the repository.
        node: ``tests/FOLDER/FILE.py::NAME`` or ``...::CLASS::NAME``.
    """
    file, *names = node.split("::")
    path = root / file
    if not path.is_file():
        return "there is no such file"
    if not (path.name.startswith("test_") or path.name.endswith("_test.py")):
        return "pytest collects files named test_*.py only"
    body: list[ast.stmt] = ast.parse(path.read_text(encoding="utf-8")).body
    found: ast.stmt | None = None
    for name in names:
        found = next((one for one in body if getattr(one, "name", None) == name), None)
        if found is None or not isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return f"the file has no {name}"
        if any(_skips(decorator) for decorator in found.decorator_list):
            return "it is always skipped"
        body = found.body
    if not names[-1].startswith("test"):
        return "pytest collects names that start with test only"
    return "" if not isinstance(found, ast.ClassDef) else "it is a class; name the test in it"


def collected(root: Path, nodes: Iterable[str]) -> set[str]:
    """Those of some tests that pytest collects, by asking it; slow, as it imports their files.

    Raises:
        DataError: pytest cannot collect at all.
    """
    files = sorted({node.partition("::")[0] for node in nodes})
    command = [sys.executable, "-m", "pytest", "--collect-only", "--verbosity=-1", *files]
    done = subprocess.run(  # noqa: S603  # our own interpreter, and names that match a pattern
        command, cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise DataError(f"pytest cannot collect the tests of the controls:\n{done.stdout[-2000:]}")
    return {line.partition("[")[0] for line in done.stdout.splitlines() if "::" in line}


def outcomes(junit: Path) -> dict[str, str]:
    """How each test of a JUnit file went: of its parameters, the worst.

    Args:
        junit: what ``pytest --junitxml FILE`` wrote.

    Returns:
        ``tests/FOLDER/FILE.py::NAME`` -> passed, skipped or failed.

    Raises:
        ConfigError: it is no such file.
    """
    try:
        tree = ElementTree.parse(junit)  # noqa: S314  # this machine's own pytest wrote it
    except (OSError, ElementTree.ParseError) as error:
        raise ConfigError(f"{junit}: no JUnit file of pytest ({error}).") from error
    found: dict[str, str] = {}
    for case in tree.iter("testcase"):
        node = _node(case.get("classname", ""), case.get("name", ""))
        found[node] = max(found.get(node, PASSED), _outcome(case), key=_RANK.index)
    return found


def _node(classname: str, name: str) -> str:
    """``tests.cohort.test_window`` and ``test_x[1]`` as ``tests/cohort/test_window.py::test_x``."""
    parts = classname.split(".")
    classes = [part for part in parts if part[:1].isupper()]
    file = "/".join(part for part in parts if part not in classes)
    return "::".join([f"{file}.py", *classes, name.partition("[")[0]])


def _outcome(case: ElementTree.Element) -> str:
    tags = {child.tag for child in case}
    if tags & {"failure", "error"}:
        return FAILED
    return SKIPPED if "skipped" in tags else PASSED


def _skips(decorator: ast.expr) -> bool:
    called = decorator.func if isinstance(decorator, ast.Call) else decorator
    return ast.unparse(called).endswith("mark.skip")
