"""The top level of a DICOM file, walked once, without trusting a single length in it.

What radiology and pathology share. ``dicom_walk`` finds where each element lies; values are decoded
here, when they are asked for. A plain parser decodes all of them, and inflates a deflated data set
of a megabyte into the gigabyte that it says it is; that takes longer, and more memory than there is.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_walk import (
    ITEM,
    KNOWN_REPRESENTATIONS,
    PIXEL_DATA,
    RESEND,
    TAG,
    UNDEFINED,
    Buffer,
    Element,
    Walk,
    read_item,
)

IMPLICIT_LITTLE = "1.2.840.10008.1.2"
EXPLICIT_LITTLE = "1.2.840.10008.1.2.1"
DEFLATED = "1.2.840.10008.1.2.1.99"
EXPLICIT_BIG = "1.2.840.10008.1.2.2"
NATIVE = frozenset({IMPLICIT_LITTLE, EXPLICIT_LITTLE, DEFLATED, EXPLICIT_BIG})
WHOLE_SLIDE = "1.2.840.10008.5.1.4.1.1.77.1.6"

_INFLATE_BYTES = 64 << 20
_MAGIC_AT = 128
_META_UID = re.compile(rb"\x02\x00(\x02|\x03)\x00UI(..)", re.DOTALL)


@dataclass(frozen=True)
class DicomHeader:
    """The elements of one DICOM object up to and including its pixel data.

    Attributes:
        data: the bytes that the elements point into (inflated where the file was deflated).
        transfer_syntax: UID; the native one that the bytes show where the file states none.
        explicit, little: how the data set is encoded.
        elements: tag as ``0xGGGGEEEE`` -> where its value lies.
    """

    data: Buffer = field(repr=False)
    transfer_syntax: str
    explicit: bool
    little: bool
    elements: Mapping[int, Element] = field(repr=False)

    def raw(self, tag: int) -> bytes | None:
        """The value's bytes; None where the element is absent or empty."""
        element = self.elements.get(tag)
        if element is None or element.start == element.stop:
            return None
        return bytes(self.data[element.start : element.stop])

    def code(self, tag: int) -> str | None:
        """A value of the default repertoire (UI, CS, DA, TM, DS ...); None where empty."""
        value = self.raw(tag)
        return (value.decode("latin-1").strip(" \0") or None) if value else None

    def words(self, tag: int) -> str | None:
        """A value in the file's own character set (LO, PN, SH ...); None where empty."""
        value = self.raw(tag)
        return (self._decode(value).strip(" \0") or None) if value else None

    def uint16(self, tag: int) -> int | None:
        """The first number of a US element."""
        value = self.raw(tag)
        if value is None or len(value) < 2:
            return None
        return int.from_bytes(value[:2], "little" if self.little else "big")

    def decimals(self, tag: int) -> tuple[float, ...] | None:
        """The numbers of a DS or IS element; None where it is empty.

        Raises:
            InputRejected: ``bad-number``, a value is not a number.
        """
        text = self.code(tag)
        if text is None:
            return None
        try:
            return tuple(float(part) for part in text.split("\\"))
        except ValueError:
            name = f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
            raise InputRejected("bad-number", f"element {name} holds no number", RESEND) from None

    @property
    def pixels(self) -> Element | None:
        """Where the pixel data lie."""
        return self.elements.get(PIXEL_DATA)

    @cached_property
    def charset_known(self) -> bool:
        """Whether every name in Specific Character Set (0008,0005) is a defined term."""
        return _encodings(self._charsets) is not None

    @cached_property
    def _charsets(self) -> tuple[str, ...]:
        return tuple(part.strip() for part in (self.code(0x00080005) or "").split("\\"))

    def _decode(self, value: bytes) -> str:
        if value.isascii() and b"\x1b" not in value:
            return value.decode("ascii")
        encodings = _encodings(self._charsets) or ("utf-8",)
        if len(encodings) == 1:
            return _decode_single(value, encodings[0])
        from pydicom.charset import decode_bytes

        try:
            return decode_bytes(value, encodings, set(b"\\^="))
        except (UnicodeError, LookupError):
            return value.decode("latin-1")


def read_header(data: Buffer) -> DicomHeader:
    """Walk a DICOM file.

    Raises:
        InputRejected: ``empty-file``, ``not-dicom``, ``executable-preamble``, ``truncated``,
            ``corrupt-header``, ``duplicate-element``, ``nested-too-deep``, ``deflate-bomb``.
    """
    if len(data) == 0:
        raise InputRejected("empty-file", "the file has no bytes", RESEND)
    start, syntax = _file_meta(data)
    if syntax == DEFLATED:
        return _inflated(data, start)
    return _walk_data_set(data, start, syntax)


def looks_like_dicom(path: str, head: bytes) -> bool:
    """Whether a file is DICOM by its preamble, its name or its first element."""
    if head[_MAGIC_AT : _MAGIC_AT + 4] == b"DICM":
        return True
    return path.lower().endswith((".dcm", ".dicom", ".ima")) or _starts_with_element(head)


def media_storage(head: bytes) -> tuple[str | None, str | None]:
    """SOP Class and SOP Instance UID of the file meta information, from a file's first bytes."""
    found: dict[bytes, str] = {}
    if head[_MAGIC_AT : _MAGIC_AT + 4] == b"DICM":
        for match in _META_UID.finditer(head, _MAGIC_AT):
            (length,) = struct.unpack("<H", match[2])
            found.setdefault(
                match[1], head[match.end() : match.end() + length].decode("latin-1").strip(" \0")
            )
    return found.get(b"\x02"), found.get(b"\x03")


def sequence_items(header: DicomHeader, tag: int) -> list[DicomHeader]:
    """The items of a top-level sequence, each as a header of its own.

    Raises:
        InputRejected: as ``read_header``.
    """
    element = header.elements.get(tag)
    items: list[DicomHeader] = []
    if element is None:
        return items
    position = element.start
    while position + 8 <= element.stop:
        found, length = read_item(header.data, position, header.little)
        if found != ITEM:
            break
        end = element.stop if length == UNDEFINED else position + 8 + length
        walk = Walk(header.data, min(end, element.stop), header.explicit, header.little)
        elements, position = walk.elements(position + 8, 1)
        items.append(
            DicomHeader(header.data, header.transfer_syntax, header.explicit, header.little, elements)
        )
    return items


def _file_meta(data: Buffer) -> tuple[int, str | None]:
    """Where the data set starts, and its transfer syntax if stated (PS3.10 section 7.1)."""
    if bytes(data[_MAGIC_AT : _MAGIC_AT + 4]) == b"DICM":
        _check_preamble(bytes(data[:4]))
        start = _MAGIC_AT + 4
    elif _starts_with_element(bytes(data[:16])):
        start = 0
    else:
        raise InputRejected(
            "not-dicom", "there is no DICM prefix and no DICOM element", "remove it, or rename it"
        )
    walk = Walk(data, len(data), explicit=True, little=True, group=2)
    elements, position = walk.elements(start, 0)
    syntax = elements.get(0x00020010)
    if syntax is None:
        return position, None
    return position, bytes(data[syntax.start : syntax.stop]).decode("latin-1").strip(" \0")


def _check_preamble(preamble: bytes) -> None:
    if preamble.startswith((b"MZ", b"\x7fELF", b"#!")):
        raise InputRejected(
            "executable-preamble",
            "the 128-byte preamble starts like a program",
            "treat the file as hostile; ask the sender for a clean copy",
        )


def _starts_with_element(head: bytes) -> bool:
    """Whether a file without preamble starts with an element of group 0002 or 0008."""
    if len(head) < 8:
        return False
    for little in (True, False):
        group, element = TAG[little].unpack_from(head)
        if group in (2, 8) and element <= 0x0020:
            if head[4:6] in KNOWN_REPRESENTATIONS:
                return True
            return little and struct.unpack_from("<I", head, 4)[0] <= 128
    return False


def _walk_data_set(data: Buffer, start: int, syntax: str | None) -> DicomHeader:
    little = syntax != EXPLICIT_BIG
    if syntax is None and len(data) >= start + 2:
        little = struct.unpack_from("<H", data, start)[0] <= 0x00FF
    explicit = bytes(data[start + 4 : start + 6]) in KNOWN_REPRESENTATIONS
    elements, _ = Walk(data, len(data), explicit, little).elements(start, 0)
    return DicomHeader(data, syntax or _native(explicit, little), explicit, little, elements)


def _native(explicit: bool, little: bool) -> str:
    if not explicit:
        return IMPLICIT_LITTLE
    return EXPLICIT_LITTLE if little else EXPLICIT_BIG


def _inflated(data: Buffer, start: int) -> DicomHeader:
    """Inflate within bounds: the declared pixels and 64 MiB, whatever the stream would give."""
    machine = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        plain = machine.decompress(bytes(data[start:]), _INFLATE_BYTES)
        if not machine.eof:
            plain += machine.decompress(machine.unconsumed_tail, max(1, _declared_bytes(plain)))
    except zlib.error as error:
        raise InputRejected("corrupt-header", f"the deflated data set is damaged: {error}", RESEND) from None
    if not machine.eof and machine.unconsumed_tail:
        raise InputRejected(
            "deflate-bomb",
            "the deflated data set is larger than its image geometry and 64 MiB",
            "treat the file as hostile; ask the sender for an uncompressed copy",
        )
    return _walk_data_set(plain, 0, DEFLATED)


def _declared_bytes(plain: bytes) -> int:
    """Bytes of pixel data that the header of an inflated prefix declares, at most 1 GiB."""
    walk = Walk(plain, len(plain), explicit=True, little=True, lenient=True)
    elements, _ = walk.elements(0, 0)
    header = DicomHeader(plain, EXPLICIT_LITTLE, True, True, elements)
    declared = 1
    for tag in (0x00280010, 0x00280011, 0x00280002, 0x00280100):
        declared *= header.uint16(tag) or 1
    frames = header.code(0x00280008)
    return min(declared * (int(frames) if frames and frames.isdigit() else 1) // 8, 1 << 30)


def _encodings(charsets: tuple[str, ...]) -> tuple[str, ...] | None:
    """Python encodings of DICOM character set names; None where one is not a defined term."""
    if charsets in (("",), ("ISO_IR 6",)):
        return ("utf-8",)
    if charsets == ("ISO_IR 100",):
        return ("latin-1",)
    from pydicom.charset import python_encoding

    names = [python_encoding.get(name) for name in charsets]
    return None if None in names else tuple(name for name in names if name)


def _decode_single(value: bytes, encoding: str) -> str:
    try:
        return value.decode(encoding)
    except (UnicodeError, LookupError):
        return value.decode("latin-1")
