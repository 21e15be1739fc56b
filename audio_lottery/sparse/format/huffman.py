"""Huffman codes of bytes by deflate without matching: near the order-0 entropy, at hundreds of MB/s, in zlib."""

import zlib

import numpy as np

_MEMORY = 9  # longest blocks: fewest code tables
_SAMPLE = 1 << 16


def deflate(data: np.ndarray) -> np.ndarray:
    """Code uint8 bytes; the same bytes for the same input and zlib build."""
    compressor = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, _MEMORY, zlib.Z_HUFFMAN_ONLY)
    return np.frombuffer(compressor.compress(data.tobytes()) + compressor.flush(), np.uint8)


def inflate(blob: np.ndarray, size: int) -> np.ndarray:
    """The bytes that `deflate` was given; never more than ``size`` + 1 of them, whatever ``blob`` claims.

    Raises:
        zlib.error: not such a code.
    """
    return np.frombuffer(zlib.decompressobj(-zlib.MAX_WBITS).decompress(blob.tobytes(), size + 1), np.uint8)


def entropy(data: np.ndarray) -> float:
    """Order-0 entropy of uint8 bytes in bits a byte; of more than 128 k, an evenly spread sample."""
    sample = data[:: max(1, len(data) // _SAMPLE)]
    shares = np.bincount(sample, minlength=256) / max(1, len(sample))
    shares = shares[shares > 0]
    return float(-(shares * np.log2(shares)).sum())
