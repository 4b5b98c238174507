"""What mkdocs writes into the reference from the code itself, so that it cannot be out of date.

``<!-- fields: module:Class -->`` becomes a table of a configuration value and of every value inside
it; ``<!-- commands -->`` becomes every verb with its options, and ``<!-- hazards -->`` the register.
Texts that live beside the code (governance, the modalities' READMEs) become pages too, and links to
them hold on both sides.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args, get_origin

from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic_core import PydanticUndefined

_FIELDS = re.compile(r"<!-- fields: ([\w.]+):(\w+) -->")
_COMMANDS = "<!-- commands -->"
_HAZARDS = "<!-- hazards -->"
_LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
_ROOT = Path(__file__).parents[1]
#: What the site shows of the repository outside ``docs/``, at the same path.
_OUTSIDE = (
    "governance/**/*.md",
    "governance/*.yaml",
    "governance/templates/*.yaml",
    "clinimm/**/README.md",
    "notebooks/*.ipynb",
    "pipelines/**/*.yaml",
    "CONTRIBUTING.md",
    "changelog.d/README.md",
)


def on_files(files: Files, config: Any) -> Files:
    """Called by mkdocs once: adds the files from outside ``docs/``."""
    for pattern in _OUTSIDE:
        for path in sorted(_ROOT.glob(pattern)):
            name = path.relative_to(_ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, files: Files, **unused: Any) -> str:
    """Called by mkdocs for every page."""
    markdown = _LINK.sub(lambda found: f"]({_on_site(found[1], page.file, files)}", markdown)
    markdown = _FIELDS.sub(lambda found: fields(found[1], found[2]), markdown)
    markdown = markdown.replace(_HAZARDS, hazards()) if _HAZARDS in markdown else markdown
    return markdown.replace(_COMMANDS, commands()) if _COMMANDS in markdown else markdown


def _on_site(link: str, file: File, files: Files) -> str:
    """A link as the repository reads it, made one that the site can follow."""
    folder = PurePosixPath(file.src_uri).parent
    inside = file.generated_by is None
    target = os.path.normpath(("docs" if inside else "") / folder / link)
    known = files.get_file_from_path(target.removeprefix("docs/"))
    return os.path.relpath(known.src_uri, folder) if known is not None else link


def fields(module: str, name: str) -> str:
    """Tables of a configuration class: its own fields, then those of each class inside it."""
    parts: list[str] = []
    waiting, seen = [getattr(import_module(module), name)], set()
    while waiting:
        model = waiting.pop(0)
        if model in seen:
            continue
        seen.add(model)
        waiting += [inner for field in model.model_fields.values() for inner in _models(field.annotation)]
        parts += [f"## {model.__name__}", _first_line(model), *_table(model)]
    return "\n\n".join(parts)


def hazards() -> str:
    """The register of hazards as one table."""
    from clinimm.governance.hazards import read_hazards

    register, _ = read_hazards(_ROOT / "governance" / "hazards.yaml")
    rows = ["| id | hazard | harm | controls | residual | open |", "|---|---|---|---|---|---|"]
    for one in register.hazards:
        held = "<br>".join(f"{control.what} *({control.kind})*" for control in one.controls)
        left = f"{one.severity}, {one.after}: {register.matrix.judge(one.severity, one.after)}"
        cells = (one.id, one.hazard, one.harm, held, left, " ".join(filter(None, (one.open, one.because))))
        rows.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(rows)


def commands() -> str:
    """Every verb: what it does, its arguments and its options."""
    import typer

    from clinimm.cli.app import app

    parts = []
    for name, command in _verbs(typer.main.get_command(app)):
        words = [
            f"clinimm {name}",
            *(_spelling(one) for one in command.params if _is_named(one)),
            "[options]",
        ]
        parts += [f"## {name}", f"    {' '.join(words)}", inspect.cleandoc(command.help or "")]
        rows = [f"| `{_spelling(one)}` | {_cell(one.help or '')} |" for one in command.params]
        parts.append("\n".join(["| argument | meaning |", "|---|---|", *rows]) if rows else "")
    return "\n\n".join(parts)


def _verbs(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """Every verb with its full name; a group of verbs is its verbs."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _verbs(command, f"{before}{name} ")
        else:
            yield before + name, command


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _first_line(model: type[BaseModel]) -> str:
    return inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _table(model: type[BaseModel]) -> Iterator[str]:
    rows = [
        f"| `{field.alias or name}` | {_default(field)} | {_cell(_meaning(field))} |"
        for name, field in model.model_fields.items()
    ]
    yield "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _default(field: Any) -> str:
    if field.is_required():
        return "*required*"
    value = field.default if field.default is not PydanticUndefined else field.default_factory()
    if isinstance(value, BaseModel):
        return "its defaults"
    return "–" if value in (None, "", (), {}) else f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    """A default as a person would write it in YAML."""
    if isinstance(value, tuple):
        return "[" + ", ".join("ever" if one is None else _plain(one) for one in value) + "]"
    if isinstance(value, timedelta):
        from clinimm.cohort.duration import format_bound

        return format_bound(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _meaning(field: Any) -> str:
    choices = " or ".join(f"`{choice}`" for choice in _choices(field.annotation))
    inner = [f"[{one.__name__}](#{one.__name__.lower()})" for one in _models(field.annotation)]
    parts = [
        field.description or "",
        f"{choices}." if choices else "",
        f"See {', '.join(inner)}." if inner else "",
    ]
    return " ".join(part for part in parts if part)


def _choices(annotation: Any) -> Iterator[Any]:
    if get_origin(annotation) is Literal:
        yield from get_args(annotation)
    else:
        for inner in get_args(annotation):
            yield from _choices(inner)


def _is_named(parameter: Any) -> bool:
    """Whether the usage line names it; what may be left out is in the table."""
    return bool(parameter.param_type_name == "argument" or parameter.required)


def _spelling(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return str(parameter.metavar or parameter.name.upper())
    names = ", ".join(parameter.opts)
    return names if parameter.is_flag else f"{names} {parameter.metavar or parameter.name.upper()}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
