"""Vectors of floats as values in numba functions: loads, multiply-adds, exp, GELU, as LLVM instructions.

numba's own loops leave it to LLVM whether and how to vectorise; the kernels of this package hold named vectors in
registers instead. A vector is ``WIDTH`` float32: 16 where the CPU has AVX-512, 8 elsewhere. Arrays are one-dimensional
and contiguous; offsets count elements, and nothing checks them: the callers in `audio_lottery.sparse` do.
"""

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import config, njit, types
from numba.core import cgutils
from numba.core.extending import intrinsic, models, register_model

_HOST = {name for name, present in get_host_cpu_features().items() if present}
# NUMBA_CPU_FEATURES is numba's own way to compile for another CPU than this one ("+avx2,+fma").
_FEATURES = {part[1:] for part in config.CPU_FEATURES.split(",") if part[:1] == "+"} if config.CPU_FEATURES else _HOST
WIDTH = 16 if "avx512f" in _FEATURES else 8
HAS_BF16_DOT = "avx512bf16" in _FEATURES
HAS_HALF = "f16c" in _FEATURES or "avx512f" in _FEATURES
HAS_INT8_DOT = {"avx512bw", "avx512vnni"} <= _FEATURES and WIDTH == 16

FLOAT = ir.FloatType()
INT = ir.IntType(32)
LONG = ir.IntType(64)
HALF = ir.IntType(16)
LANES = ir.VectorType(FLOAT, WIDTH)
ZEROS = ir.Constant(LANES, [0.0] * WIDTH)


class VectorType(types.Type):
    """numba's name for ``WIDTH`` float32 in a register."""

    def __init__(self) -> None:
        super().__init__(name=f"f32x{WIDTH}")


vector = VectorType()


@register_model(VectorType)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, LANES)


# ---------------------------------------------------------------- pieces of IR, shared with the kernels


def data_pointer(context, builder, kind, value):
    """The data pointer of an array."""
    return cgutils.create_struct_proxy(kind)(context, builder, value=value).data


def load_lanes(builder, pointer, offset, lanes=LANES):
    """Vector at element ``offset``; needs the alignment of one element only."""
    address = builder.bitcast(builder.gep(pointer, [offset]), lanes.as_pointer())
    return builder.load(address, align=4)


def store_lanes(builder, value, pointer, offset):
    """The reverse."""
    address = builder.bitcast(builder.gep(pointer, [offset]), value.type.as_pointer())
    builder.store(value, address, align=4)


def splat_lanes(builder, scalar, lanes=LANES):
    """One value in every lane."""
    one = builder.insert_element(ir.Constant(lanes, ir.Undefined), scalar, INT(0))
    return builder.shuffle_vector(
        one, ir.Constant(lanes, ir.Undefined), ir.Constant(ir.VectorType(INT, lanes.count), [0] * lanes.count)
    )


def _call(builder, name, *arguments):
    """One of LLVM's intrinsics on vectors of float32."""
    kind = arguments[0].type
    function = ir.FunctionType(kind, [kind] * len(arguments))
    return builder.call(cgutils.get_or_insert_function(builder.module, function, f"{name}.v{kind.count}f32"), arguments)


def fma_lanes(builder, a, b, c):
    """a·b + c, rounded once."""
    return _call(builder, "llvm.fma", a, b, c)


def emit_loop(builder, first, last, initial, step):
    """A loop that holds sums, vectors of any kind, in registers; builder is left behind it.

    Args:
        builder: where the loop begins.
        first: first index.
        last: one past the last.
        initial: what the sums start from. Floats start from zero: a bias or a residual is larger than most products,
            and what is added to it is rounded to its size; `emit_added` adds it in the end.
        step: (index, sums) to the sums after that index.

    Returns:
        The sums.
    """
    entry = builder.block
    head, body, done = (builder.append_basic_block(name) for name in ("head", "body", "done"))
    builder.branch(head)
    builder.position_at_end(head)
    index = builder.phi(LONG)
    sums = [builder.phi(value.type) for value in initial]
    index.add_incoming(first, entry)
    for total, value in zip(sums, initial, strict=True):
        total.add_incoming(value, entry)
    builder.cbranch(builder.icmp_signed("<", index, last), body, done)
    builder.position_at_end(body)
    following = step(index, sums)
    index.add_incoming(builder.add(index, LONG(1)), builder.block)
    for total, value in zip(sums, following, strict=True):
        total.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(done)
    return sums


def emit_added(builder, sums, condition, load_more):
    """Sums of floats, and where the condition holds what ``load_more()`` loads, added to them."""
    entry = builder.block
    more, done = (builder.append_basic_block(name) for name in ("more", "added"))
    builder.cbranch(condition, more, done)
    builder.position_at_end(more)
    added = [builder.fadd(total, value) for total, value in zip(sums, load_more(), strict=True)]
    builder.branch(done)
    builder.position_at_end(done)
    found = [builder.phi(total.type) for total in sums]
    for block, values in ((entry, sums), (more, added)):
        for one, value in zip(found, values, strict=True):
            one.add_incoming(value, block)
    return found


def _operation(emit, arity):
    if arity == 1:

        @intrinsic
        def one(typing, a):
            return vector(vector), lambda context, builder, signature, values: emit(builder, *values)

        return one
    if arity == 2:

        @intrinsic
        def two(typing, a, b):
            return vector(vector, vector), lambda context, builder, signature, values: emit(builder, *values)

        return two

    @intrinsic
    def three(typing, a, b, c):
        return vector(vector, vector, vector), lambda context, builder, signature, values: emit(builder, *values)

    return three


# ---------------------------------------------------------------- what numba functions call

add = _operation(lambda builder, a, b: builder.fadd(a, b), 2)
subtract = _operation(lambda builder, a, b: builder.fsub(a, b), 2)
multiply = _operation(lambda builder, a, b: builder.fmul(a, b), 2)
divide = _operation(lambda builder, a, b: builder.fdiv(a, b), 2)
# One instruction each; where either is NaN the result is b.
maximum = _operation(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b), 2)
minimum = _operation(lambda builder, a, b: builder.select(builder.fcmp_ordered("<", a, b), a, b), 2)
fma = _operation(fma_lanes, 3)
absolute = _operation(lambda builder, a: _call(builder, "llvm.fabs", a), 1)
square_root = _operation(lambda builder, a: _call(builder, "llvm.sqrt", a), 1)
nearest = _operation(lambda builder, a: _call(builder, "llvm.rint", a), 1)


@intrinsic
def load(typing, array, offset):
    """``WIDTH`` float32 from element ``offset`` on."""

    def generate(context, builder, signature, values):
        return load_lanes(builder, data_pointer(context, builder, signature.args[0], values[0]), values[1])

    return vector(array, types.int64), generate


@intrinsic
def store(typing, array, offset, value):
    """Write ``WIDTH`` float32 from element ``offset`` on."""

    def generate(context, builder, signature, values):
        store_lanes(builder, values[2], data_pointer(context, builder, signature.args[0], values[0]), values[1])
        return context.get_dummy_value()

    return types.void(array, types.int64, vector), generate


@intrinsic
def splat(typing, scalar):
    """One float32 in every lane."""
    return vector(types.float32), lambda context, builder, signature, values: splat_lanes(builder, values[0])


@intrinsic
def total(typing, a):
    """The sum of all lanes, added in pairs."""

    def generate(context, builder, signature, values):
        kind = ir.FunctionType(FLOAT, [FLOAT, LANES])
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.vector.reduce.fadd.v{WIDTH}f32")
        return builder.call(function, [ir.Constant(FLOAT, 0.0), values[0]], fastmath=("reassoc",))

    return types.float32(vector), generate


@intrinsic
def power_of_two(typing, exponent):
    """2^n for whole n in [-126, 127], by writing the exponent bits."""

    def generate(context, builder, signature, values):
        whole = ir.VectorType(INT, WIDTH)
        bits = builder.add(builder.fptosi(values[0], whole), ir.Constant(whole, [127] * WIDTH))
        return builder.bitcast(builder.shl(bits, ir.Constant(whole, [23] * WIDTH)), LANES)

    return vector(vector), generate


@intrinsic
def scale_by_power(typing, value, exponent):
    """value · 2^n for whole n of any size, in one instruction of AVX-512."""

    def generate(context, builder, signature, values):
        mask = ir.IntType(WIDTH)
        kind = ir.FunctionType(LANES, [LANES, LANES, LANES, mask, INT])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.avx512.mask.scalef.ps.512")
        # 4: round as the CPU is set to
        return builder.call(function, [*values, ZEROS, mask(-1), INT(4)])

    return vector(vector, vector), generate


@intrinsic
def even_lanes(typing, a, b):
    """Elements 0, 2, 4 … of ``a`` followed by ``b``."""

    def generate(context, builder, signature, values):
        return builder.shuffle_vector(*values, ir.Constant(ir.VectorType(INT, WIDTH), list(range(0, 2 * WIDTH, 2))))

    return vector(vector, vector), generate


@intrinsic
def odd_lanes(typing, a, b):
    """Elements 1, 3, 5 … of ``a`` followed by ``b``."""

    def generate(context, builder, signature, values):
        return builder.shuffle_vector(*values, ir.Constant(ir.VectorType(INT, WIDTH), list(range(1, 2 * WIDTH, 2))))

    return vector(vector, vector), generate


@intrinsic
def transpose(typing, source, source_offset, source_stride, target, target_offset, target_stride):
    """Transpose ``WIDTH`` × ``WIDTH`` float32: rows ``source_stride`` apart become rows ``target_stride`` apart."""

    def generate(context, builder, signature, values):
        read = data_pointer(context, builder, signature.args[0], values[0])
        write = data_pointer(context, builder, signature.args[3], values[3])
        rows = [
            load_lanes(builder, read, builder.add(values[1], builder.mul(LONG(row), values[2]))) for row in range(WIDTH)
        ]
        # log2(WIDTH) rounds, each of which swaps the off-diagonal blocks of half the size of the round before.
        half = WIDTH // 2
        while half:
            swapped = list(rows)
            for row in range(WIDTH):
                if row & half:
                    continue
                upper, lower = rows[row], rows[row + half]
                first = [lane if not lane & half else WIDTH + lane - half for lane in range(WIDTH)]
                second = [lane + half if not lane & half else WIDTH + lane for lane in range(WIDTH)]
                index = ir.VectorType(INT, WIDTH)
                swapped[row] = builder.shuffle_vector(upper, lower, ir.Constant(index, first))
                swapped[row + half] = builder.shuffle_vector(upper, lower, ir.Constant(index, second))
            rows = swapped
            half //= 2
        for row in range(WIDTH):
            store_lanes(builder, rows[row], write, builder.add(values[4], builder.mul(LONG(row), values[5])))
        return context.get_dummy_value()

    return types.void(source, types.int64, types.int64, target, types.int64, types.int64), generate


F = np.float32


@njit(inline="always")
def exp(x):
    """e^x to about 1 ulp; below -87 it stays at e^-87 (Cephes' expf: reduction by ln 2 and a polynomial)."""
    x = minimum(splat(F(88.0)), maximum(splat(F(-87.0)), x))
    n = nearest(multiply(x, splat(F(1.44269504088896341))))
    r = fma(n, splat(F(-0.693359375)), x)
    r = fma(n, splat(F(2.12194440e-4)), r)
    p = splat(F(1.9875691500e-4))
    p = fma(p, r, splat(F(1.3981999507e-3)))
    p = fma(p, r, splat(F(8.3334519073e-3)))
    p = fma(p, r, splat(F(4.1665795894e-2)))
    p = fma(p, r, splat(F(1.6666665459e-1)))
    p = fma(p, r, splat(F(5.0000001201e-1)))
    p = fma(multiply(p, r), r, add(r, splat(F(1.0))))
    return multiply(p, power_of_two(n))


@njit(inline="always")
def erf(x):
    """Error function to about 1e-7, and without a bias, which a network would add up: a quotient of polynomials.

    Their coefficients are fitted to |x| times the error (what GELU makes of it), argument clamped to ±3.9.
    """
    x = minimum(splat(F(3.9)), maximum(splat(F(-3.9)), x))
    y = multiply(x, x)
    p = splat(F(3.022187922939618e-06))
    p = fma(p, y, splat(F(0.0003464305666178134)))
    p = fma(p, y, splat(F(0.0034000959787551187)))
    p = fma(p, y, splat(F(0.05259681405256778)))
    p = fma(p, y, splat(F(0.17544867318794474)))
    p = fma(p, y, splat(F(1.1283791930725662)))
    q = splat(F(1.6015249993966075e-09))
    q = fma(q, y, splat(F(-9.725468703011742e-08)))
    q = fma(q, y, splat(F(5.404045003719212e-05)))
    q = fma(q, y, splat(F(0.001178604959364594)))
    q = fma(q, y, splat(F(0.01445994905842202)))
    q = fma(q, y, splat(F(0.10955200552871627)))
    q = fma(q, y, splat(F(0.48882093839188834)))
    q = fma(q, y, splat(F(1.0)))
    return divide(multiply(x, p), q)


@njit(inline="always")
def gelu(x):
    """x·Φ(x), the exact form (not the tanh one)."""
    half = multiply(x, splat(F(0.5)))
    return fma(half, erf(multiply(x, splat(F(0.70710678118654752)))), half)


@njit(inline="always")
def rough_gelu(x):
    """`gelu` to 2e-4, without a division: Φ - 1/2 is odd, here a polynomial of degree 13 between ±4."""
    y = minimum(splat(F(4.0)), maximum(splat(F(-4.0)), x))
    z = multiply(y, y)
    p = splat(F(2.2781455738887043e-08))
    p = fma(p, z, splat(F(-1.5986028598657792e-06)))
    p = fma(p, z, splat(F(4.795552380877111e-05)))
    p = fma(p, z, splat(F(-0.0008140154430828686)))
    p = fma(p, z, splat(F(0.008772387719586699)))
    p = fma(p, z, splat(F(-0.06457310827106244)))
    p = fma(p, z, splat(F(0.39788334651650187)))
    return multiply(x, fma(y, p, splat(F(0.5))))
