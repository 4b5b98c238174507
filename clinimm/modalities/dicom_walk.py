"""One pass over DICOM elements that trusts no length (PS3.5 section 7).

A plain parser forgives what ingest must not: an element cut short, an element that occurs twice
(the last one wins, so a patient's identifier can be replaced), sequences nested without end.
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

from clinimm.core.errors import InputRejected

Buffer = bytes | mmap.mmap

PIXEL_DATA = 0x7FE00010
_PIXEL_TAGS = frozenset({PIXEL_DATA, 0x7FE00008, 0x7FE00009})
ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
UNDEFINED = 0xFFFFFFFF
#: Value representations with a 16-bit length, and those with a 32-bit one (PS3.5 section 7.1.2).
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
#: Every value representation of PS3.5 section 6.2.
KNOWN_REPRESENTATIONS = _SHORT | _LONG
TAG = {True: struct.Struct("<HH"), False: struct.Struct(">HH")}
_EXPLICIT = {True: struct.Struct("<HH2sH"), False: struct.Struct(">HH2sH")}
_IMPLICIT = {True: struct.Struct("<HHI"), False: struct.Struct(">HHI")}
_LENGTH = {True: struct.Struct("<I"), False: struct.Struct(">I")}

MAX_DEPTH = 32
RESEND = "ask the sender to transmit the object again"


class Element(NamedTuple):
    """Where a value lies: bytes ``start`` to ``stop``. A tuple, for a file has a hundred of them."""

    vr: bytes
    start: int
    stop: int
    undefined: bool = False


class Walk:
    """One pass over elements.

    Args:
        data: the file.
        end: no element may end later.
        explicit, little: how the elements are encoded.
        group: stop at the first element of another group.
        lenient: an element that is cut off ends the walk instead of being refused.
    """

    def __init__(
        self,
        data: Buffer,
        end: int,
        explicit: bool,
        little: bool,
        group: int | None = None,
        lenient: bool = False,
    ) -> None:
        self.data, self.end, self.explicit, self.little = data, end, explicit, little
        self.group, self.lenient = group, lenient

    def elements(self, position: int, depth: int) -> tuple[dict[int, Element], int]:
        """Elements from ``position`` to the end, the item's delimiter or the pixel data.

        Returns:
            tag as ``0xGGGGEEEE`` -> where its value lies, and where the walk stopped.

        Raises:
            InputRejected: ``truncated``, ``corrupt-header``, ``duplicate-element``,
                ``nested-too-deep``.
        """
        if depth > MAX_DEPTH:
            raise InputRejected("nested-too-deep", f"sequences are nested more than {MAX_DEPTH} deep", RESEND)
        found: dict[int, Element] = {}
        read = self._explicit if self.explicit else self._implicit
        while position + 8 <= self.end:
            tag, vr, start, length = read(position)
            if self.group is not None and tag >> 16 != self.group:
                return found, position
            if tag == _ITEM_END:
                return found, start
            if tag in found:
                raise InputRejected(
                    "duplicate-element", f"element ({tag >> 16:04X},{tag & 0xFFFF:04X}) occurs twice", RESEND
                )
            if length == UNDEFINED:
                stop, position = self._undefined(tag, vr, start, depth)
            else:
                stop = position = start + length
            if stop > self.end:
                if self.lenient:
                    return found, self.end
                raise _truncated(tag)
            found[tag] = Element(vr, start, stop, length == UNDEFINED)
            if tag in _PIXEL_TAGS and depth == 0:
                return found, position
        if depth == 0 and not self.lenient and any(self.data[position : self.end]):
            raise _truncated(0)
        return found, self.end

    def _explicit(self, position: int) -> tuple[int, bytes, int, int]:
        group, element, vr, length = _EXPLICIT[self.little].unpack_from(self.data, position)
        if vr in _SHORT:
            return group << 16 | element, vr, position + 8, length
        tag = group << 16 | element
        if vr in _LONG:
            if position + 12 > self.end:
                raise _truncated(tag)
            return tag, vr, position + 12, _LENGTH[self.little].unpack_from(self.data, position + 8)[0]
        if group == 0xFFFE or (self.group is not None and group != self.group):
            return tag, b"", position + 8, 0
        raise InputRejected(
            "corrupt-header", f"byte {position} holds no DICOM element (value representation {vr!r})", RESEND
        )

    def _implicit(self, position: int) -> tuple[int, bytes, int, int]:
        group, element, length = _IMPLICIT[self.little].unpack_from(self.data, position)
        return group << 16 | element, b"", position + 8, length

    def _undefined(self, tag: int, vr: bytes, start: int, depth: int) -> tuple[int, int]:
        """Where a value of undefined length ends, and where the next element starts."""
        if tag in _PIXEL_TAGS:
            return self._fragments(start)
        if vr not in (b"SQ", b"UN", b""):
            raise InputRejected("corrupt-header", f"a {vr!r} element has no length", RESEND)
        inner = self
        if vr == b"UN":  # PS3.5 section 6.2.2, note 4: such a value is implicit VR little endian
            inner = Walk(self.data, self.end, explicit=False, little=True)
        return inner._sequence(tag, start, depth)

    def _sequence(self, tag: int, position: int, depth: int) -> tuple[int, int]:
        while position + 8 <= self.end:
            found, length = read_item(self.data, position, self.little)
            if found == _SEQUENCE_END:
                return position, position + 8
            if found != ITEM:
                raise InputRejected("corrupt-header", f"byte {position} holds no sequence item", RESEND)
            if length == UNDEFINED:
                _, position = self.elements(position + 8, depth + 1)
            else:
                position += 8 + length
        raise _truncated(tag)

    def _fragments(self, position: int) -> tuple[int, int]:
        """The end of encapsulated pixel data; a missing delimiter at the file's end is forgiven."""
        while position + 8 <= self.end:
            found, length = read_item(self.data, position, True)
            if found == _SEQUENCE_END:
                return position, position + 8
            if found != ITEM:
                raise InputRejected("corrupt-header", f"byte {position} holds no pixel fragment", RESEND)
            position += 8 + length
        return position, position


def read_item(data: Buffer, position: int, little: bool) -> tuple[int, int]:
    """Tag and length of a sequence item, a fragment or a delimiter."""
    group, element, length = _IMPLICIT[little].unpack_from(data, position)
    return group << 16 | element, length


def _truncated(tag: int) -> InputRejected:
    where = f"in element ({tag >> 16:04X},{tag & 0xFFFF:04X})" if tag else "in the last element"
    return InputRejected("truncated", f"the file ends {where}", RESEND)
