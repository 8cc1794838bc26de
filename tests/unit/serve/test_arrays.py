from __future__ import annotations

import io
import json
import pickle
import random
import re
import warnings
from collections import Counter
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from serving import PROTOCOL, png

from pi05.errors import Refused
from pi05.serve.arrays import MSGPACK_NUMPY, OPENPI, VLA_EVAL, ArrayDialect, pack, unpack
from pi05.serve.bounds import MOST_ITEMS

OLD_VLLM = ArrayDialect(markers="msgpack-numpy", kind_letter=True)
OLD_VLLM_TEXT = ArrayDialect(markers="msgpack-numpy", kind_letter=True, text_keys=True)
DIALECTS = (OPENPI, VLA_EVAL, MSGPACK_NUMPY, OLD_VLLM, OLD_VLLM_TEXT)
DTYPES = ("|u1", "|b1", "<i2", "<i8", "<u4", "<f2", "<f4", "<f8")
RECORDED = [json.loads(line) for line in (PROTOCOL / "msgpack_numpy.jsonl").read_text().splitlines()]
READ = [one for one in RECORDED if "hex" in one and one["codec"] != "groot"]


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    size = int(np.prod(shape)) * dtype.itemsize
    data = draw(st.binary(min_size=size, max_size=size))
    if dtype.kind == "b":
        data = bytes(byte & 1 for byte in data)
    return np.frombuffer(data, dtype).reshape(shape)


@given(value=arrays(), dialect=st.sampled_from(DIALECTS), nested=st.booleans())
@settings(max_examples=150)
def test_arrays_come_back_in_every_dialect(value: np.ndarray, dialect: ArrayDialect, nested: bool) -> None:
    message = {"a": {"b": [value]}} if nested else {"a": value}
    back, found = unpack(pack(message, dialect))
    array = back["a"]["b"][0] if nested else back["a"]
    assert found == dialect
    assert (array.dtype, array.shape) == (value.dtype, value.shape)
    assert array.tobytes() == value.tobytes()


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("value", [np.float32(2.5), np.int64(-7), np.bool_(True), np.float16(0.5)])
def test_numbers_come_back(dialect: ArrayDialect, value: Any) -> None:
    back = unpack(pack({"x": value}, dialect))[0]["x"]
    assert back == value
    if dialect != VLA_EVAL:  # which sends plain numbers
        assert type(back) is type(value)


@pytest.mark.parametrize("one", READ, ids=lambda one: f"{one['codec']}-{one['value']}")
def test_recorded_values_are_read_as_their_own_codec_reads_them(one: dict[str, Any]) -> None:
    """And packed again to the very bytes; what is no array of numbers is refused."""
    frame, own = bytes.fromhex(one["hex"]), one["own_decode"]
    kind = str(own.get("dtype", ""))
    if any(word in one["value"] for word in ("bytes", "bfloat16", "complex", "structured", "datetime")):
        with pytest.raises(Refused, match="cannot be read"):
            unpack(frame)
        return
    message, dialect = unpack(frame)
    value = message["x"]
    if own.get("t") == "ndarray" and "U" not in kind:
        assert value.shape == tuple(own["shape"])
        assert value.astype(kind).tobytes().hex() == own["c_order_hex"]  # in the sender's byte order
        if not kind.startswith(">") and "png" not in str(frame):
            assert dialect is not None
            assert b"__image__" in frame or pack(message, dialect) == frame
    elif "v" in own:
        assert value == own["v"]


class Bomb:
    def __reduce__(self) -> Any:
        return (exec, ("import sys; sys.modules['pi05_exploded'] = sys",))


@pytest.mark.parametrize("keys", ["bytes", "text"])
@pytest.mark.parametrize("kind", ["O", "V"])
def test_a_pickle_is_refused_and_never_opened(keys: str, kind: str) -> None:
    import sys

    marker: dict[Any, Any] = {"nd": True, "type": "|O", "kind": kind, "shape": [1], "data": pickle.dumps(Bomb())}
    if keys == "bytes":
        marker = {key.encode(): value.encode() if key == "kind" else value for key, value in marker.items()}
    with pytest.raises(Refused, match="pickle"):
        unpack(msgpack.packb({"x": marker}))
    assert "pi05_exploded" not in sys.modules


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [2, 2]},
        {"shape": [-1]},
        {"shape": [3.0]},
        {"shape": [True, 3]},
        {"shape": "3"},
        {"shape": [1] * 9 + [3]},
        {"shape": [1 << 40, 0]},
        {"dtype": "|O"},
        {"dtype": "<c8"},
        {"dtype": "|V1"},
        {"dtype": "<M8[s]"},
        {"dtype": "x" * 10_000},
        {"dtype": None},
        {"dtype": "<f4"},
        {"data": "abc"},
        {"data": None},
    ],
)
def test_arrays_that_do_not_add_up_are_refused(changes: dict[str, Any]) -> None:
    marker = {"__ndarray__": True, "data": b"abc", "dtype": "|u1", "shape": [3], **changes}
    with pytest.raises(Refused):
        unpack(msgpack.packb({"x": marker}))


def test_truth_is_zero_or_one() -> None:
    with pytest.raises(Refused, match="truth"):
        unpack(msgpack.packb({"x": {"__ndarray__": True, "data": b"\x02", "dtype": "|b1", "shape": [1]}}))


@pytest.mark.parametrize("code", [0xD800, 0xDFFF, 0x110000])
@pytest.mark.parametrize("shape", [[], [1], [1, 1]])
def test_texts_that_no_answer_could_repeat_are_refused(code: int, shape: list[int]) -> None:
    """Halves of surrogate pairs, and what is no character at all."""
    marker = {"__ndarray__": True, "data": code.to_bytes(4, "little"), "dtype": "<U1", "shape": shape}
    with pytest.raises(Refused, match="cannot be read"):
        unpack(msgpack.packb({"request_id": marker}))


def test_an_array_holds_no_more_texts_than_a_message_values() -> None:
    for count in (MOST_ITEMS, MOST_ITEMS + 1):
        marker = {"__ndarray__": True, "data": b"a\0\0\0" * count, "dtype": "<U1", "shape": [count]}
        frame = msgpack.packb({"x": marker})
        if count <= MOST_ITEMS:
            assert unpack(frame)[0]["x"] == ["a"] * count
            continue
        with pytest.raises(Refused, match="10,001 texts"):
            unpack(frame)


def test_texts_that_numpy_packed_are_texts() -> None:
    frame = msgpack.packb(
        {"x": {b"__ndarray__": True, b"data": "go".encode("utf-32-le"), b"dtype": "<U2", b"shape": []}}
    )
    assert unpack(frame)[0]["x"] == "go"


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "gif"},
        {"data": b"\x89PNG broken"},
        {"shape": [9, 9, 3]},
        {"data": 7},
        {"format": "raw", "dtype": "|O"},
    ],
)
def test_pictures_that_cannot_be_unpacked_are_refused(changes: dict[str, Any]) -> None:
    whole = msgpack.unpackb(bytes.fromhex(next(r["hex"] for r in READ if r["codec"] == "vla-eval")))["x"]
    unpack(msgpack.packb({"x": whole}))
    with pytest.raises(Refused):
        unpack(msgpack.packb({"x": {**whole, **changes}}))


def test_a_depth_map_is_no_picture() -> None:
    """Pillow would cut its millimetres off at 255."""
    stored = io.BytesIO()
    Image.fromarray(np.full((3, 4), 1500, np.uint16)).save(stored, "PNG")
    with pytest.raises(Refused, match="more than 8 bits"):
        unpack(shown(stored.getvalue()))


def shown(data: bytes, form: str = "png") -> bytes:
    return bytes(msgpack.packb({"x": {"__image__": True, "format": form, "data": data, "shape": None}}))


@pytest.mark.parametrize("warns", ["error", "ignore"])
@pytest.mark.parametrize("side", [3000, 10_000, 20_000, (1 << 31) - 1])
def test_pictures_that_would_unpack_to_too_much_are_refused(side: int, warns: Any) -> None:
    """Over our limit, over that of which PIL warns, over that which it refuses, and all that a header can say."""
    assert len(shown(png(side, side))) < 200
    with warnings.catch_warnings():
        warnings.simplefilter(warns)
        with pytest.raises(Refused, match=f"too large|a picture of {side} × {side}") as error:
            unpack(shown(png(side, side)))
    assert error.value.code == "malformed"


def test_many_small_pictures_do_not_unpack_to_a_large_message() -> None:
    """A black one of 4 million pixels has 600 bytes: five take 3 KB, and would be 60 MB."""
    stored = io.BytesIO()
    Image.new("1", (2040, 2040)).save(stored, "PNG")
    one = {"__image__": True, "format": "png", "data": stored.getvalue()}
    for count in (1, 4):
        message, _ = unpack(msgpack.packb({"images": {f"{i}": one for i in range(count)}}))
        assert len(message["images"]) == count
    frame = msgpack.packb({"images": {f"{i}": one for i in range(5)}})
    assert len(frame) < 4000
    with pytest.raises(Refused, match=r"2040 × 2040 pixels, where 130,816 are left"):
        unpack(frame)


def test_pictures_that_are_damaged_are_refused_whatever_their_decoder_says() -> None:
    """Bytes exchanged, cut and put in, checksums set right; chunks that cannot be: an answer, or a refusal."""
    rng, whole = random.Random(0), []
    noise = np.random.default_rng(0).integers(0, 256, (17, 23, 3), np.uint8)
    jpegs: list[tuple[str, dict[str, Any]]] = [("RGB", {}), ("CMYK", {"progressive": True})]
    jpegs.append(("RGB", {"exif": b"Exif\0\0MM\0*\0\0\0\x08\0\0"}))
    pngs: list[tuple[str, dict[str, Any]]] = [(mode, {}) for mode in ("RGB", "L", "P", "RGBA", "1")]
    for form, (mode, options) in [*(("JPEG", one) for one in jpegs), *(("PNG", one) for one in pngs)]:
        held = io.BytesIO()
        Image.fromarray(noise).convert(mode).save(held, form, **options)
        whole.append((form.lower(), held.getvalue()))
    found: Counter[str] = Counter()
    for i in range(3000):
        form, data = rng.choice(whole)
        broken = bytearray(data)
        for _ in range(rng.randrange(1, 4)):
            place = rng.randrange(len(broken))
            broken[place : place + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
        if i % 5 == 0:
            chunk = (rng.choice((b"iCCP", b"tRNS", b"acTL", b"eXIf")), rng.randbytes(rng.randrange(9)))
            width, height = rng.choice((1, 4, 9500, 20_000)), rng.choice((1, 4, 9500, 20_000))
            broken[:] = png(width, height, chunk, colour=rng.choice((0, 2, 3)))
            form = "png"
        try:
            unpack(shown(bytes(broken), form))
            found["read"] += 1
        except Refused as error:
            found[error.code] += 1
    assert set(found) == {"read", "malformed"}
    assert min(found.values()) > 100


@pytest.mark.parametrize(("number", "dtype"), [(1e300, "<f4"), (1e5, "<f2"), (300, "|u1"), (float("nan"), "<i4")])
def test_a_number_that_its_type_does_not_hold_is_refused(number: float, dtype: str) -> None:
    with pytest.raises(Refused, match=f"no {re.escape(dtype)}"):
        unpack(msgpack.packb({"x": {"__npgeneric__": True, "data": number, "dtype": dtype}}))


def test_what_is_no_map_is_refused() -> None:
    for frame in (b"\x90", b"\x07", b"\xa1x", b"", b"\xc1", msgpack.packb({b"x": 1}), msgpack.packb({1: 2})):
        with pytest.raises(Refused):
            unpack(frame)


def test_what_cannot_be_sent_is_not_sent() -> None:
    with pytest.raises(TypeError, match="complex64"):
        pack({"x": np.zeros(1, np.complex64)})
    with pytest.raises(TypeError, match="object"):
        pack({"x": object()})
