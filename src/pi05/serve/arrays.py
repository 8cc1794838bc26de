"""Arrays in msgpack, in the three ways that clients of robot policies have, and back in the way of the one who asks.

openpi: a map with the byte keys `__ndarray__`, `data`, `dtype`, `shape`. vla-eval: the same keys as text, and pictures
as PNG or JPEG. msgpack-numpy: `nd`, `type`, `kind`, `shape`, `data`; its `kind` O is a pickle, which is refused here,
as every array is that does not consist of numbers. Facts: shared/spec/servers.md.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgpack
import numpy as np
from PIL import Image, UnidentifiedImageError

from pi05.data.robot.depth import is_deep
from pi05.errors import Refused
from pi05.serve.bounds import MOST_ITEMS, malformed, require_bounded

MOST_PIXELS = 1 << 22
"""Of a compressed picture: it unpacks to 12 MiB."""
MOST_PIXELS_TOGETHER = 1 << 24
"""Of all compressed pictures of a message: one of 600 bytes may unpack to 12 MiB, and a message holds thousands."""
MOST_DIMENSIONS = 8
MOST_NUMBERS = 1 << 31
"""That a shape may speak of, the empty sides of an empty array left out."""
_NUMBERS = re.compile(r"[<>|=]?(b1|[iu][1248]|f[248])")
_TEXT = re.compile(r"[<=]?U(\d{1,4})")


@dataclass(frozen=True, kw_only=True)
class ArrayDialect:
    """How somebody packs arrays."""

    markers: Literal["openpi", "msgpack-numpy"] = "openpi"
    text_keys: bool = False
    """Whether the keys of the marker map are text; otherwise they are bytes."""
    kind_letter: bool = False
    """Of msgpack-numpy: whether `kind` names the kind of every array, as older vLLM-Omni has it."""

    @property
    def name(self) -> str:
        """Short name, for logs and metrics."""
        return self.markers + ("-text" if self.text_keys else "")


OPENPI = ArrayDialect()
VLA_EVAL = ArrayDialect(text_keys=True)
MSGPACK_NUMPY = ArrayDialect(markers="msgpack-numpy")


def unpack(frame: bytes) -> tuple[dict[str, Any], ArrayDialect | None]:
    """Return a message and the dialect of its first array; None where it holds none.

    Arrays are views of the message and cannot be written. Raises Refused for anything else than a map with text keys.
    """
    require_bounded(frame)
    reader = _Reader()
    try:
        message = msgpack.unpackb(frame, raw=False, strict_map_key=True, object_hook=reader.read)
    except (ValueError, TypeError, msgpack.UnpackException) as error:  # ValueError holds UnicodeDecodeError
        raise malformed(str(error) or type(error).__name__) from error
    if not isinstance(message, dict) or not all(isinstance(key, str) for key in message):
        kind = "an array" if isinstance(message, np.ndarray) else f"a {type(message).__name__}"
        raise malformed(f"{kind} instead of a map with text keys")
    return message, reader.dialect


def pack(message: Mapping[str, Any], dialect: ArrayDialect = OPENPI) -> bytes:
    """Return a message as bytes, its arrays in the given dialect."""

    def marked(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return _pack_array(value, dialect)
        if isinstance(value, np.generic):
            return _pack_scalar(value, dialect)
        raise TypeError(f"{type(value).__name__} cannot be sent")

    return bytes(msgpack.packb(dict(message), default=marked, use_bin_type=True))


def _pack_array(array: np.ndarray, dialect: ArrayDialect) -> dict[Any, Any]:
    if not _NUMBERS.fullmatch(array.dtype.str):
        raise TypeError(f"arrays of {array.dtype} cannot be sent")
    fields: dict[str, Any]
    if dialect.markers == "openpi":
        fields = {"__ndarray__": True, "data": array.tobytes(), "dtype": array.dtype.str, "shape": list(array.shape)}
    else:
        kind: Any = array.dtype.kind if dialect.kind_letter else b""
        fields = {"nd": True, "type": array.dtype.str, "kind": kind, "shape": list(array.shape)}
        fields["data"] = array.tobytes()
    return _keyed(fields, dialect)


def _pack_scalar(value: np.generic, dialect: ArrayDialect) -> Any:
    if dialect.markers == "msgpack-numpy":
        fields = {"nd": False, "type": value.dtype.str, "data": value.tobytes()}
        return _keyed(fields | ({"kind": value.dtype.kind} if dialect.kind_letter else {}), dialect)
    if dialect.text_keys:
        return value.item()
    return _keyed({"__npgeneric__": True, "data": value.item(), "dtype": value.dtype.str}, dialect)


def _keyed(fields: dict[str, Any], dialect: ArrayDialect) -> dict[Any, Any]:
    return dict(fields) if dialect.text_keys else {name.encode(): value for name, value in fields.items()}


class _Reader:
    """Turns marker maps into arrays, and remembers how the first of them was packed."""

    def __init__(self) -> None:
        self.dialect: ArrayDialect | None = None
        self._pixels_left = MOST_PIXELS_TOGETHER

    def read(self, found: dict[Any, Any]) -> Any:
        """Return what one map of the message stands for."""
        if not found or len(found) > 6:
            return found
        fields = {key.decode("latin-1") if isinstance(key, bytes) else key: value for key, value in found.items()}
        text_keys = all(isinstance(key, str) for key in found)
        if "__ndarray__" in fields:
            self._saw(ArrayDialect(text_keys=text_keys))
            return _array(fields.get("data"), fields.get("dtype"), fields.get("shape"))
        if "__npgeneric__" in fields:
            return _scalar_of(fields.get("data"), fields.get("dtype"))
        if "__image__" in fields:
            self._saw(VLA_EVAL)
            picture, pixels = _picture(fields, min(MOST_PIXELS, self._pixels_left))
            self._pixels_left -= pixels
            return picture
        if "nd" in fields and "type" in fields and "data" in fields:
            kind = fields.get("kind", b"")
            letter = bool(kind) and kind not in (b"O", "O", b"V", "V")
            if kind in (b"O", "O", b"V", "V"):
                raise malformed("an array of objects, which is a pickle: it is never unpacked")
            self._saw(ArrayDialect(markers="msgpack-numpy", text_keys=text_keys, kind_letter=letter))
            array = _array(fields["data"], fields["type"], fields.get("shape", []))
            return array if fields["nd"] is True else array[()]
        return found

    def _saw(self, dialect: ArrayDialect) -> None:
        self.dialect = self.dialect or dialect


def _array(data: Any, dtype: Any, shape: Any) -> Any:
    """Return an array of numbers, or a text that was packed as one. Every size is checked before anything is made."""
    if not isinstance(data, bytes) or not isinstance(dtype, str) or not isinstance(shape, list):
        raise malformed("an array without data, dtype or shape")
    if not (_NUMBERS.fullmatch(dtype) or _TEXT.fullmatch(dtype)):
        raise malformed(f"an array of {dtype[:40]!r}: numbers are read, no objects and no structures")
    whole = all(type(side) is int and 0 <= side <= MOST_NUMBERS for side in shape)
    if len(shape) > MOST_DIMENSIONS or not whole or math.prod(max(side, 1) for side in shape) > MOST_NUMBERS:
        raise malformed(f"an array of the shape {str(shape)[:80]}")
    kind = np.dtype(dtype)
    if math.prod(shape) * kind.itemsize != len(data) or kind.itemsize == 0:
        raise malformed(f"an array of {dtype}{shape} with {len(data)} bytes")
    array = np.frombuffer(data, kind).reshape(shape)
    if kind.kind == "U":
        return _texts(array if kind.isnative else array.astype(kind.newbyteorder("=")))
    if kind.kind == "b" and array.view(np.uint8).max(initial=0) > 1:
        raise malformed("an array of truth values with other bytes than 0 and 1")
    return array if kind.isnative else array.astype(kind.newbyteorder("="))


def _texts(array: np.ndarray) -> Any:
    """Return a text, or lists of texts: no more than a message may hold, and none that no answer could repeat."""
    if array.size > MOST_ITEMS:
        raise malformed(f"an array of {array.size:,} texts")
    codes = np.frombuffer(array.tobytes(), np.uint32)
    if ((codes >= 0xD800) & (codes <= 0xDFFF) | (codes > 0x10FFFF)).any():
        raise malformed("a text with halves of surrogate pairs, or with what is no character")
    return str(array) if array.ndim == 0 else array.tolist()


def _scalar_of(data: Any, dtype: Any) -> Any:
    if not isinstance(dtype, str) or not _NUMBERS.fullmatch(dtype) or not isinstance(data, bool | int | float):
        raise malformed("a number that is none")
    try:
        with np.errstate(over="raise"):  # no infinity in the place of a number that is too large
            return np.dtype(dtype).type(data)
    except (ArithmeticError, ValueError) as error:
        raise malformed(f"a number that is no {dtype}: {error}") from error


def _picture(fields: Mapping[str, Any], most: int) -> tuple[Any, int]:
    """Return a picture of vla-eval, PNG or JPEG of at most so many pixels, or raw bytes; and the pixels unpacked."""
    way, data, shape = fields.get("format"), fields.get("data"), fields.get("shape")
    if way == "raw":
        return _array(data, fields.get("dtype", "|u1"), shape), 0
    if way not in ("png", "jpeg") or not isinstance(data, bytes):
        raise malformed(f"a picture of the format {str(way)[:20]!r}")
    try:
        with Image.open(io.BytesIO(data), formats=["PNG", "JPEG"]) as image:
            width, height = image.size
            if width * height > most:
                together = f", where {most:,} are left for this message" * (most < MOST_PIXELS)
                raise malformed(f"a picture of {width} × {height} pixels{together}")
            if is_deep(image):
                raise malformed(f"a picture of mode {image.mode}: more than 8 bits for each value")
            picture = np.asarray(image.convert("RGB"))
    except Refused:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # what PIL itself finds too large
        raise malformed(f"a picture that is too large: {error}") from error
    except UnidentifiedImageError as error:
        raise malformed("a picture that is neither PNG nor JPEG") from error
    except Exception as error:  # what PIL's decoders raise on damage is of every kind, struct.error among them
        raise malformed(f"a picture that cannot be unpacked: {type(error).__name__}: {error}") from error
    if isinstance(shape, list) and shape != list(picture.shape):
        raise malformed(f"a picture of {list(picture.shape)} that says {str(shape)[:40]}")
    return picture, width * height
