"""Which dotted keys a configuration can have, so that a plan cannot allow what does not exist."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, get_args, get_origin

from pydantic import BaseModel

#: A list's index or a dictionary's key.
_ANY = "0"


@dataclass(frozen=True)
class KnownKeys:
    """The keys of a configuration, a list's index and a dictionary's key written as ``0``.

    Attributes:
        keys: dotted.
        open: starts below which any key may stand, such as an encoder's own options.
    """

    keys: frozenset[str]
    open: frozenset[str]

    def matches(self, pattern: str) -> bool:
        """Whether a pattern (``*`` stands for any characters) can match a key at all."""
        if any(fnmatchcase(key, pattern) for key in self.keys):
            return True
        plain = ".".join(self._generic(pattern.split(".")))
        return plain in self.keys or any(plain.startswith(f"{start}.") for start in self.open)

    def _generic(self, parts: list[str]) -> Iterator[str]:
        """The parts with what is not a field's name written as ``0``: an index, a modality's name."""
        at: list[str] = []
        for part in parts:
            named = ".".join([*at, part])
            known = any(key == named or key.startswith(f"{named}.") for key in self.keys)
            at.append(part if known else _ANY)
            yield at[-1]


def known_keys(model: type[BaseModel]) -> KnownKeys:
    """The keys of a configuration and of every value inside it."""
    keys: set[str] = set()
    free: set[str] = set()
    _walk(model, (), keys, free)
    return KnownKeys(frozenset(keys), frozenset(free))


def _walk(annotation: Any, at: tuple[str, ...], keys: set[str], free: set[str]) -> None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, field in annotation.model_fields.items():
            _walk(field.annotation, (*at, field.alias or name), keys, free)
        return
    keys.add(".".join(at))
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is dict and inner[1] is Any:
        free.add(".".join(at))
    elif origin in (dict, tuple, list):
        _walk(inner[1] if origin is dict else inner[0], (*at, _ANY), keys, free)
    else:
        for one in inner:
            if get_origin(one) in (dict, tuple, list) or (
                isinstance(one, type) and issubclass(one, BaseModel)
            ):
                _walk(one, at, keys, free)
