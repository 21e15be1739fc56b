"""Looking out for a number that another thread will change, without giving the processor away."""

import platform

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.extending import intrinsic

from audio_lottery.sparse.kernels.vector import data_pointer

_HAS_PAUSE = platform.machine().lower() in ("x86_64", "amd64")


@intrinsic
def _read(typing, array, index):
    """An element as it is in memory now."""

    def generate(context, builder, signature, arguments):
        place = builder.gep(data_pointer(context, builder, signature.args[0], arguments[0]), [arguments[1]])
        return builder.load_atomic(place, "acquire", 8)

    return types.int64(array, types.int64), generate


@intrinsic
def _pause(typing):
    """Tell the processor that this is a loop that waits."""

    def generate(context, builder, signature, arguments):
        if _HAS_PAUSE:
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "llvm.x86.sse2.pause"), [])
        return context.get_dummy_value()

    return types.void(), generate


@njit(nogil=True, cache=True)
def changes(number, before, turns):
    """Whether ``number[0]`` (int64) becomes another one than ``before`` while it is looked at ``turns`` times."""
    for _ in range(turns):
        if _read(number, 0) != before:
            return True
        _pause()
    return False
