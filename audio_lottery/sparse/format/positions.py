"""Which of n places are kept, in as few bytes as one of three codes gives.

- ``rice``: Golomb-Rice codes of the gaps; best at low densities.
- ``bitmap``: one bit a place.
- ``huffman``: the bitmap's bytes in Huffman codes (deflate without matching, RFC 1951). A byte is two groups of four
  inputs, so this also finds 2:4, 1:4 and other N:M masks, which need fewer bits than their density says.

The bound to compare with is n·H(density), the entropy of n independent decisions.
"""

import math
import zlib

import numpy as np

from audio_lottery.errors import ModelError
from audio_lottery.sparse.format import rice
from audio_lottery.sparse.format.huffman import deflate, entropy, inflate

CODINGS = ("rice", "bitmap", "huffman")


def entropy_bits(places: int, kept: int) -> float:
    """n·H(kept / n) in bits, H the binary entropy."""
    if kept in (0, places):
        return 0.0
    density = kept / places
    return -places * (density * math.log2(density) + (1 - density) * math.log2(1 - density))


def encode(keep: np.ndarray, kept: np.ndarray) -> tuple[str, np.ndarray]:
    """The shortest code of a flat bool array.

    Args:
        keep: bool [places].
        kept: int64, where ``keep`` is true.

    Returns:
        (coding, uint8 bytes).
    """
    coded = {}
    # Above one half most gaps are 0 and cost a bit each, and the others cost more: a bitmap is never longer.
    if 2 * len(kept) <= len(keep):
        coded["rice"] = rice.encode(kept)
    # A Huffman code spends at least a bit on a byte, eight places.
    if not coded or 64 * len(coded["rice"]) > len(keep):
        coded["bitmap"] = np.packbits(keep, bitorder="little")
        if entropy(coded["bitmap"]) * len(coded["bitmap"]) < 8 * min(map(len, coded.values())):
            coded["huffman"] = deflate(coded["bitmap"])
    coding = min(coded, key=lambda name: (len(coded[name]), CODINGS.index(name)))
    return coding, coded[coding]


def decode(coding: str, blob: np.ndarray, places: int, kept: int) -> np.ndarray:
    """The kept positions, int64 [kept], ascending.

    Raises:
        ModelError: the bytes hold another number of positions, or an unknown coding.
    """
    if coding == "rice":
        return rice.decode(blob, kept, places)
    size = -(-places // 8)
    if coding == "huffman":
        try:
            blob = inflate(blob, size)
        except zlib.error as error:
            raise ModelError(f"the Huffman code of the positions cannot be read ({error})") from error
    elif coding != "bitmap":
        raise ModelError(f"positions are coded as '{coding}'; this release reads {', '.join(CODINGS)}")
    if len(blob) != size:
        raise ModelError(f"the bitmap has {len(blob)} bytes for {places} places")
    positions = np.flatnonzero(np.unpackbits(blob, count=places, bitorder="little").view(np.bool_))
    if len(positions) != kept:
        raise ModelError(f"the bitmap keeps {len(positions)} places where {kept} were kept")
    return positions
