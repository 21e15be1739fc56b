"""Golomb-Rice codes of the gaps between kept positions (Golomb 1966; Rice and Plaunt 1971), as numba kernels.

A gap g is written as g >> k zeros, a one, and the k low bits of g; bits fill little-endian 64-bit words from the lowest
up. Gaps between independently kept weights are geometric, for which these codes are within 4 % of the entropy at
densities up to one half. k is chosen exactly for every `BLOCK` gaps: it follows densities that change along a tensor.
"""

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

from audio_lottery.errors import ModelError

BLOCK = 1024
_LARGEST_K = 31


def encode(positions: np.ndarray) -> np.ndarray:
    """Code ascending positions.

    Args:
        positions: int64, strictly ascending, each below 2³¹·`BLOCK`.

    Returns:
        uint8: one k per `BLOCK` gaps, then the bits, padded to whole bytes with zeros.
    """
    gaps = np.diff(positions, prepend=np.int64(-1)) - 1
    parameters = np.empty(-(-len(gaps) // BLOCK), np.uint8)
    bits = _choose(gaps, parameters)
    words = np.zeros((bits + 63) // 64, np.uint64)
    _write(gaps, parameters, words)
    stream = words.astype("<u8", copy=False).view(np.uint8)[: (bits + 7) // 8]
    return np.concatenate([parameters, stream])


def decode(blob: np.ndarray, count: int, limit: int) -> np.ndarray:
    """The positions, int64 [count], that `encode` was given.

    Args:
        blob: what `encode` returned.
        count: how many positions.
        limit: every position is below it.

    Raises:
        ModelError: the bits end too early, or a position is not below ``limit``.
    """
    blocks = -(-count // BLOCK)
    parameters, stream = np.ascontiguousarray(blob[:blocks]), blob[blocks:]
    # A gap takes a bit at least: a count beyond that is not given memory.
    sound = len(parameters) == blocks and count <= 8 * len(stream) and int(parameters.max(initial=0)) <= _LARGEST_K
    words = np.zeros(len(stream) // 8 + 2, "<u8")
    words.view(np.uint8)[: len(stream)] = stream
    positions = np.empty(count if sound else 0, np.int64)
    if not sound or _read(words.astype(np.uint64, copy=False), parameters, 8 * len(stream), limit, positions) != count:
        raise ModelError(f"the gap code does not hold {count} positions below {limit}")
    return positions


@intrinsic
def _trailing_zeros(typingctx, value):  # numba reads the arguments itself
    """Number of zero bits below the lowest one of a uint64 that is not zero."""

    def codegen(context, builder, signature, arguments):
        return builder.cttz(arguments[0], context.get_constant(types.boolean, 1))

    return types.uint64(types.uint64), codegen


@njit(cache=True, nogil=True)
def _choose(gaps: np.ndarray, parameters: np.ndarray) -> int:
    """Fill in the best k of every block; returns the bits of the whole stream."""
    total = 0
    for block in range(len(parameters)):
        first = block * BLOCK
        last = min(first + BLOCK, len(gaps))
        mean = 0
        for index in range(first, last):
            mean += gaps[index]
        mean //= last - first
        start = 0
        while start < _LARGEST_K and (mean >> (start + 1)) > 0:
            start += 1
        best = -1
        for k in range(max(0, start - 1), min(_LARGEST_K, start + 1) + 1):
            bits = (last - first) * (1 + k)
            for index in range(first, last):
                bits += gaps[index] >> k
            if best < 0 or bits < best:
                best = bits
                parameters[block] = k
        total += best
    return total


@njit(cache=True, nogil=True)
def _write(gaps: np.ndarray, parameters: np.ndarray, words: np.ndarray) -> None:
    bit = 0
    for index in range(len(gaps)):
        k = np.int64(parameters[index // BLOCK])
        gap = gaps[index]
        bit += gap >> k
        # The one and the k bits above it, at most 32 bits: they touch one word or two.
        code = np.uint64(1) | (np.uint64(gap & ((1 << k) - 1)) << np.uint64(1))
        word, offset = bit >> 6, bit & 63
        words[word] |= code << np.uint64(offset)
        if offset + k + 1 > 64:
            words[word + 1] |= code >> np.uint64(64 - offset)
        bit += k + 1


@njit(cache=True, nogil=True)
def _read(words: np.ndarray, parameters: np.ndarray, bits: int, limit: int, positions: np.ndarray) -> int:
    """Decode into ``positions``; returns how many were read before the bits ended or a position reached ``limit``.

    ``words`` has at least one word more than ``bits`` fill, so the second word of a code can always be read.
    """
    bit: Any = 0
    position = np.int64(-1)
    for index in range(len(positions)):
        k = np.int64(parameters[index // BLOCK])
        quotient = np.int64(0)
        while True:
            if bit >= bits:
                return index
            rest = words[bit >> 6] >> np.uint64(bit & 63)
            if rest != 0:
                zeros = np.int64(_trailing_zeros(rest))
                quotient += zeros
                bit += zeros + 1
                break
            quotient += 64 - (bit & 63)
            bit += 64 - (bit & 63)
        if bit + k > bits:
            return index
        word, offset = bit >> 6, bit & 63
        remainder = words[word] >> np.uint64(offset)
        if offset + k > 64:
            remainder |= words[word + 1] << np.uint64(64 - offset)
        bit += k
        if quotient > limit >> k:
            return index
        position += 1 + (quotient << k) + np.int64(remainder & ((np.uint64(1) << np.uint64(k)) - np.uint64(1)))
        if position >= limit:
            return index
        positions[index] = position
    return len(positions)
