"""YAML with line numbers, so that an error can point at what a person wrote."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from clinimm.core.errors import ConfigError

ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class YamlDocument:
    """A parsed file: plain values beside the line on which each key stands."""

    path: Path
    value: dict[str, Any]
    lines: dict[tuple[str | int, ...], int]

    def where(self, location: Sequence[str | int]) -> str:
        """``file:line`` of the deepest part of ``location`` that the file holds.

        Parts that the file does not hold are passed over: a missing key, or the tag by which
        pydantic marks the chosen member of a union.
        """
        keys: tuple[str | int, ...] = ()
        for part in location:
            if (*keys, part) in self.lines:
                keys = (*keys, part)
        return f"{self.path}:{self.lines.get(keys, 1)}"


def read_yaml(path: Path) -> YamlDocument:
    """Read a YAML mapping.

    Raises:
        ConfigError: the file is absent, not YAML, or its top level is not a mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}.") from error
    try:
        tree = YAML(typ="rt").load(io.StringIO(text))
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise ConfigError(f"{path}:{line}: {problem}.") from error
    if not isinstance(tree, Mapping):
        raise ConfigError(f"{path}:1: expected a mapping of keys to values at the top level.")
    lines: dict[tuple[str | int, ...], int] = {}
    value = _plain(tree, (), lines)
    return YamlDocument(path, value, lines)


def validate(document: YamlDocument, model: type[ModelT]) -> ModelT:
    """The document as ``model``.

    Raises:
        ConfigError: one line a mistake, each with ``file:line`` and the key.
    """
    try:
        return model.model_validate(document.value)
    except ValidationError as error:
        raise ConfigError(describe(document, error, model)) from error


def describe(document: YamlDocument, error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """A validation error in words: one line a mistake.

    Args:
        document: what was read.
        error: what is wrong with it.
        model: what it was read as; with it, a key that is not known is named beside its nearest.
    """
    rows = []
    for item in error.errors():
        location = item["loc"]
        key = ".".join(str(part) for part in location)
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            message = "is not a known key" + (nearest_key(model, location) if model else "")
        given = item.get("input")
        got = f" (got {given!r})" if isinstance(given, (str, int, float, bool)) else ""
        rows.append(f"{document.where(location)}: {key}: {message}{got}")
    return "\n".join(rows)


def nearest_key(model: type[BaseModel], location: Sequence[str | int]) -> str:
    """What a key that is not known was perhaps meant to be: ``; did you mean `margin`?``.

    Names every key that may stand there where none is near, and is empty where no place is found.
    """
    *parents, key = location
    models = [model]
    for part in parents:
        if isinstance(part, str):
            models = [inner for one in models for inner in _below(one, part)] or models
    known = sorted({field.alias or name for one in models for name, field in one.model_fields.items()})
    near = get_close_matches(str(key), known, n=1)
    if near:
        return f"; did you mean `{near[0]}`?"
    return f"; keys here are {', '.join(known)}" if known else ""


def _below(model: type[BaseModel], part: str) -> Iterator[type[BaseModel]]:
    """The models inside a field; none where ``part`` is the key of a dictionary or a union's tag."""
    for name, field in model.model_fields.items():
        if part in (name, field.alias):
            yield from _models(field.annotation)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _plain(node: Any, at: tuple[str | int, ...], lines: dict[tuple[str | int, ...], int]) -> Any:
    if isinstance(node, Mapping):
        for key in node:
            lines[(*at, str(key))] = node.lc.key(key)[0] + 1  # type: ignore[attr-defined]
        return {str(key): _plain(node[key], (*at, str(key)), lines) for key in node}
    if isinstance(node, list):
        for index in range(len(node)):
            lines[(*at, index)] = node.lc.item(index)[0] + 1  # type: ignore[attr-defined]
        return [_plain(item, (*at, index), lines) for index, item in enumerate(node)]
    return _scalar(node)


def _scalar(node: Any) -> Any:
    for kind in (bool, int, float, str):
        if isinstance(node, kind):
            return kind(node)
    return node
