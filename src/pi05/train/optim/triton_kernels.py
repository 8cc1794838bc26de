"""The kernels of the update, in Triton: each value is read once and written once.

A program takes a few blocks; the largest magnitude of a block, which its moments' codes need, never leaves the
registers. Bit for bit the arithmetic of `plain_update.py` on a CPU, which takes some care (`_adam`). The module needs
Triton, which PyTorch's CUDA builds bring along; with TRITON_INTERPRET=1 in the environment, set before this is
imported, the same code runs on a CPU, slowly. What is annotated as `tl.constexpr` is a number that the
compiler knows; `no_type_check` keeps the tests' checks of shapes away, which would wrap what Triton has to read.
Leaves out how kernels are launched (`triton_update.py`) and when they are trusted (`kernel_check.py`).
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def _random_bits(index, key0, key1):
    """As `stochastic_rounding.random_bits`: int32 products wrap, and `>>` keeps the sign."""
    x = index ^ key0
    x = (x ^ ((x >> 16) & 0xFFFF)) * 0x7FEB352D
    x = (x ^ ((x >> 15) & 0x1FFFF)) ^ key1
    x = x * -0x7B935975
    return x ^ ((x >> 16) & 0xFFFF)


@triton.jit
@no_type_check
def _load_float32(pointer, inside):
    """Load numbers in float32 or bfloat16, as float32. Bits are moved: a conversion may lose what is denormal."""
    values = tl.load(pointer, mask=inside, other=0.0)
    if pointer.dtype.element_ty == tl.bfloat16:
        values = (values.to(tl.uint16, bitcast=True).to(tl.int32) << 16).to(tl.float32, bitcast=True)
    return values


@triton.jit
@no_type_check
def _adam(weight, gradient, first, second, kept, size, correction, share, beta2, share2, eps):
    """Return the moved weight and moments, all in float32.

    A plain `/` and `tl.sqrt` are approximations on a GPU; `div_rn` and `sqrt_rn` round as IEEE 754 has it. Denormal
    numbers are kept in sums and products: Triton flushes them nowhere else.
    """
    new1 = first + (gradient - first) * share
    new2 = second * beta2 + (gradient * gradient) * share2
    scale = tl.sqrt_rn(tl.div_rn(new2, tl.full(new2.shape, 0.0, tl.float32) + correction)) + eps
    moved = weight * kept + tl.div_rn(new1 * size, scale)
    return moved, new1, new2


@triton.jit
@no_type_check
def _store_weight(pointer, moved, noise, inside):
    """Store weights in float32, or rounded by chance as `stochastic_rounding.round_to_bfloat16` does it.

    The upper half of the bits is stored as it is. A NaN that has been through arithmetic has its highest bit of the
    mantissa set, and stays one.
    """
    if pointer.dtype.element_ty == tl.bfloat16:
        bits = moved.to(tl.int32, bitcast=True)
        finite = (bits & 0x7F800000) != 0x7F800000
        bits = tl.where(finite, bits + (noise & 0xFFFF), bits)
        tl.store(pointer, ((bits >> 16) & 0xFFFF).to(tl.uint16).to(tl.bfloat16, bitcast=True), mask=inside)
    else:
        tl.store(pointer, moved, mask=inside)


@triton.jit
@no_type_check
def _decode(codes, scales, EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, SIGNED: tl.constexpr):
    """Return the values of codes: `Minifloat._round` backwards, in the place of a table of all codes."""
    MAGNITUDES: tl.constexpr = 1 << (EXPONENT + MANTISSA)
    FIRST: tl.constexpr = (129 - (1 << EXPONENT)) << 23
    code = codes & (MAGNITUDES - 1)
    normal = code >= (1 << MANTISSA)
    steps = tl.where(normal, code - (1 << MANTISSA), code)
    value = ((steps << (23 - MANTISSA)) + FIRST).to(tl.float32, bitcast=True)
    smallest = tl.full(code.shape, FIRST, tl.int32).to(tl.float32, bitcast=True)
    value = tl.where(normal, value, value - smallest)
    if SIGNED:
        value = tl.where((codes & MAGNITUDES) != 0, -value, value)
    return value * scales[:, None]


@triton.jit
@no_type_check
def _encode(values, noise, largest, EXPONENT: tl.constexpr, MANTISSA: tl.constexpr, SIGNED: tl.constexpr):
    """Return codes and the blocks' scales, as `Minifloat.encode` does. `tl.max` overlooks NaN, which is put back."""
    MAGNITUDES: tl.constexpr = 1 << (EXPONENT + MANTISSA)
    FIRST: tl.constexpr = (129 - (1 << EXPONENT)) << 23
    magnitude = tl.abs(values)
    unknown = tl.max((magnitude != magnitude).to(tl.int32), axis=1) != 0
    top = tl.max(tl.where(magnitude == magnitude, magnitude, 0.0), axis=1)
    scales = tl.div_rn(top, tl.full(top.shape, 0.0, tl.float32) + largest)
    scales = tl.where(unknown, float("nan"), scales)
    divisor = tl.where(scales < 1.1754943508222875e-38, 1.1754943508222875e-38, scales)  # the least that is normal
    scaled = tl.div_rn(magnitude, tl.broadcast_to(divisor[:, None], magnitude.shape))
    smallest = tl.full(scaled.shape, FIRST, tl.int32).to(tl.float32, bitcast=True)
    normal = scaled >= smallest
    raw = tl.abs(tl.where(normal, scaled, scaled + smallest)).to(tl.int32, bitcast=True) - FIRST
    codes = (raw + ((noise & 0xFFFF) << (7 - MANTISSA))) >> (23 - MANTISSA)
    codes = tl.where(normal, codes + (1 << MANTISSA), codes)
    codes = tl.minimum(codes, MAGNITUDES - 1)
    if SIGNED:
        codes = tl.maximum(codes, 0)
        codes = tl.where(values < 0, codes + MAGNITUDES, codes)
    else:
        codes = tl.maximum(codes, 1)
    return codes, scales


@triton.jit
@no_type_check
def _load_codes(pointer, row, blocks, BLOCK: tl.constexpr, BITS: tl.constexpr):
    """Return codes as int32: bytes, or of two that share a byte first the lower half."""
    column = tl.arange(0, BLOCK)
    if BITS == 8:
        codes = tl.load(pointer + row[:, None] * BLOCK + column[None, :], mask=blocks[:, None], other=0).to(tl.int32)
    else:
        both = tl.load(pointer + row[:, None] * (BLOCK // 2) + (column // 2)[None, :], mask=blocks[:, None], other=0)
        codes = (both.to(tl.int32) >> ((column & 1) * 4)[None, :]) & 0xF
    return codes


@triton.jit
@no_type_check
def _store_codes(pointer, codes, row, blocks, ROWS: tl.constexpr, BLOCK: tl.constexpr, BITS: tl.constexpr):
    if BITS == 8:
        column = tl.arange(0, BLOCK)
        tl.store(pointer + row[:, None] * BLOCK + column[None, :], codes.to(tl.uint8), mask=blocks[:, None])
    else:
        low, high = tl.split(tl.reshape(codes, (ROWS, BLOCK // 2, 2)))
        pair = tl.arange(0, BLOCK // 2)
        both = (low | (high << 4)).to(tl.uint8)
        tl.store(pointer + row[:, None] * (BLOCK // 2) + pair[None, :], both, mask=blocks[:, None])


@triton.jit(do_not_specialize=["count", "start"])
@no_type_check
def packed(
    weight_pointer,
    gradient_pointer,
    codes1,
    scales1,
    codes2,
    scales2,
    factor,
    keys,
    count,
    start,
    kept,
    size,
    correction,
    share,
    beta2,
    share2,
    eps,
    largest1,
    largest2,
    EXPONENT1: tl.constexpr,
    MANTISSA1: tl.constexpr,
    EXPONENT2: tl.constexpr,
    MANTISSA2: tl.constexpr,
    BITS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):
    """Move a parameter whose moments are packed, some of its blocks."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    at = row[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    blocks, inside = row * BLOCK < count, at < count
    gradient = _load_float32(gradient_pointer + at, inside) * tl.load(factor)
    weight = _load_float32(weight_pointer + at, inside)
    first = _load_codes(codes1, row, blocks, BLOCK, BITS)
    first = _decode(first, tl.load(scales1 + row, mask=blocks, other=0.0), EXPONENT1, MANTISSA1, True)
    second = _load_codes(codes2, row, blocks, BLOCK, BITS)
    second = _decode(second, tl.load(scales2 + row, mask=blocks, other=0.0), EXPONENT2, MANTISSA2, False)
    moved, new1, new2 = _adam(weight, gradient, first, second, kept, size, correction, share, beta2, share2, eps)
    place = at.to(tl.int32) + start.to(tl.int32)
    noise = _random_bits(place, tl.load(keys), tl.load(keys + 1))
    noise2 = _random_bits(place, tl.load(keys + 2), tl.load(keys + 3))
    _store_weight(weight_pointer + at, moved, noise, inside)
    # What fills the last block up is 0, and rounded without noise.
    new1, noise = tl.where(inside, new1, 0.0), tl.where(inside, noise >> 16, 0)
    new2, noise2 = tl.where(inside, new2, 0.0), tl.where(inside, noise2, 0)
    codes, scales = _encode(new1, noise, largest1, EXPONENT1, MANTISSA1, True)
    _store_codes(codes1, codes, row, blocks, ROWS, BLOCK, BITS)
    tl.store(scales1 + row, scales, mask=blocks)
    codes, scales = _encode(new2, noise2, largest2, EXPONENT2, MANTISSA2, False)
    _store_codes(codes2, codes, row, blocks, ROWS, BLOCK, BITS)
    tl.store(scales2 + row, scales, mask=blocks)


@triton.jit
@no_type_check
def _float32_chunk(
    weight_pointer,
    gradient_pointer,
    first_pointer,
    second_pointer,
    factor,
    keys,
    chunk,
    count,
    start,
    kept,
    size,
    correction,
    share,
    beta2,
    share2,
    eps,
    CHUNK: tl.constexpr,
):
    at = chunk.to(tl.int64) * CHUNK + tl.arange(0, CHUNK)
    inside = at < count
    gradient = _load_float32(gradient_pointer + at, inside) * tl.load(factor)
    weight = _load_float32(weight_pointer + at, inside)
    first = tl.load(first_pointer + at, mask=inside, other=0.0)
    second = tl.load(second_pointer + at, mask=inside, other=0.0)
    moved, new1, new2 = _adam(weight, gradient, first, second, kept, size, correction, share, beta2, share2, eps)
    noise = at.to(tl.int32)
    if weight_pointer.dtype.element_ty == tl.bfloat16:
        noise = _random_bits(at.to(tl.int32) + start, tl.load(keys), tl.load(keys + 1))
    _store_weight(weight_pointer + at, moved, noise, inside)
    tl.store(first_pointer + at, new1, mask=inside)
    tl.store(second_pointer + at, new2, mask=inside)


@triton.jit(do_not_specialize=["count", "start"])
@no_type_check
def float32(
    weight,
    gradient,
    first,
    second,
    factor,
    keys,
    count,
    start,
    kept,
    size,
    correction,
    share,
    beta2,
    share2,
    eps,
    CHUNK: tl.constexpr,
):
    """Move a parameter with moments in float32, a chunk of it."""
    _float32_chunk(
        weight, gradient, first, second, factor, keys, tl.program_id(0), count, start.to(tl.int32),
        kept, size, correction, share, beta2, share2, eps, CHUNK,
    )  # fmt: skip


@triton.jit
@no_type_check
def float32_group(
    table,
    weight_like,
    gradient_like,
    kept,
    size,
    correction,
    share,
    beta2,
    share2,
    eps,
    CHUNK: tl.constexpr,
    FIELDS: tl.constexpr,
):
    """Move the parameter of a row of `table`, a chunk of it; those that are shorter have fewer chunks."""
    chunk = tl.program_id(0)
    entry = table + tl.program_id(1) * FIELDS
    count = tl.load(entry + 6)
    if chunk * CHUNK < count:
        weight = tl.load(entry).to(tl.pointer_type(weight_like.dtype.element_ty))
        gradient = tl.load(entry + 1).to(tl.pointer_type(gradient_like.dtype.element_ty))
        first = tl.load(entry + 2).to(tl.pointer_type(tl.float32))
        second = tl.load(entry + 3).to(tl.pointer_type(tl.float32))
        factor = tl.load(entry + 4).to(tl.pointer_type(tl.float32))
        keys = tl.load(entry + 5).to(tl.pointer_type(tl.int32))
        _float32_chunk(
            weight, gradient, first, second, factor, keys, chunk, count, 0,
            kept, size, correction, share, beta2, share2, eps, CHUNK,
        )  # fmt: skip
