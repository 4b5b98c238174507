"""Which code made a result: the package's version and a digest of its source."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

from clinimm import __version__

#: Files of the package that change what a stage writes.
_SOURCE_SUFFIXES = frozenset({".py", ".yaml", ".json", ".html", ".css", ".js"})


@lru_cache(maxsize=8)
def code_version(plugins: tuple[str, ...] = ()) -> str:
    """``VERSION+DIGEST`` of the package, and of the plug-in modules that a pipeline file names.

    Two results with equal versions came from the same source text, released or not.
    """
    state = hashlib.sha256()
    for root in (Path(__file__).parent, *_plugin_sources(plugins)):
        for path in _sources(root):
            state.update(str(path.relative_to(root.parent)).encode("utf-8") + b"\0" + path.read_bytes())
    return f"{__version__}+{state.hexdigest()[:12]}"


def _sources(folder_or_file: Path) -> list[Path]:
    if folder_or_file.is_file():
        return [folder_or_file]
    return sorted(path for path in folder_or_file.rglob("*") if path.suffix in _SOURCE_SUFFIXES)


def _plugin_sources(plugins: tuple[str, ...]) -> list[Path]:
    found = []
    for name in plugins:
        try:
            spec = find_spec(name)
        except ModuleNotFoundError:
            continue  # the modality table names the missing plug-in where it is needed
        if spec is not None and spec.origin is not None:
            origin = Path(spec.origin)
            found.append(origin.parent if origin.name == "__init__.py" else origin)
    return found
