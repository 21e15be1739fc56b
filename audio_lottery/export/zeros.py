"""Proof that an exported file has the zeros of its model, matrix by matrix."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from audio_lottery.errors import ModelError


@dataclass(frozen=True)
class Zeros:
    """Zeros of the matrices that were found in a file.

    Attributes:
        matrices: how many.
        weights: in all of them.
        zeros: of the model; the file has as many in float32, and in int8 at least as many.
        exported: of the file.
        changed: matrices whose other values are not those of the model: rounded, or scaled by a norm behind them.
    """

    matrices: int
    weights: int
    zeros: int
    exported: int
    changed: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Constant:
    values: np.ndarray
    zeros: int
    digest: bytes


def check_zeros(sources: Mapping[str, Tensor], constants: Iterable[np.ndarray], *, rounded: bool) -> Zeros:
    """Find every matrix of a model among the constants of a file, and count its zeros there.

    Exporters rename and transpose weights, reorder the gates of a recurrent layer, and multiply a convolution with the
    norm behind it. So a matrix is first looked for by its values in any order, then by zeros in the same places, at
    last, where rounding and reordering meet, by their number.

    Args:
        sources: name → weight.
        constants: of the file.
        rounded: whether values were rounded, which makes more zeros of small weights.

    Raises:
        ModelError: a matrix is not there, or not with its zeros.
    """
    sizes = {weight.numel() for weight in sources.values()}
    found: dict[int, list[_Constant]] = {}
    for values in constants:
        if values.size in sizes:
            found.setdefault(values.size, []).append(
                _Constant(np.squeeze(values), int((values == 0).sum()), _digest(values))
            )
    weights = {name: weight.detach().cpu().numpy() for name, weight in sources.items()}
    changed, exported, left = [], 0, []
    taken: set[bytes] = set()  # exporters store equal matrices once
    for name, weight in weights.items():
        digest = _digest(weight)
        same = [one for one in found.get(weight.size, ()) if one.digest == digest]
        if same:
            exported += same[0].zeros
            taken.add(digest)
        else:
            left.append(name)
    found = {size: [one for one in same if one.digest not in taken] for size, same in found.items()}
    for places in (True, False):
        for name in list(left):
            weight = weights[name]
            zeros = int((weight == 0).sum())
            alike = [
                one
                for one in found.get(weight.size, ())
                if (one.zeros >= zeros if rounded else one.zeros == zeros)
                and (not places or _covers(weight, one.values))
            ]
            if alike:
                nearest = min(alike, key=lambda one: one.zeros)
                exported += nearest.zeros
                found[weight.size] = [one for one in found[weight.size] if one is not nearest]
                changed.append(name)
                left.remove(name)
    if left:
        weight = weights[left[0]]
        zeros = int((weight == 0).sum())
        raise ModelError(
            f"'{left[0]}' of shape {weight.shape} with {zeros} zeros is not in the exported file with as many zeros "
            f"({len(left)} of {len(weights)} matrices are not): the exporter has changed it; use another target"
        )
    zeros = sum(int((weight == 0).sum()) for weight in weights.values())
    return Zeros(len(weights), sum(weight.size for weight in weights.values()), zeros, exported, tuple(changed))


def _digest(values: np.ndarray) -> bytes:
    """Of the values in ascending order; -0 counts as 0."""
    return hashlib.blake2b(np.sort(values + values.dtype.type(0), axis=None).tobytes(), digest_size=16).digest()


def _covers(weight: np.ndarray, values: np.ndarray) -> bool:
    """Whether zeros are zero in the same place, or in that of the transposed matrix."""
    zero = np.squeeze(weight) == 0
    return any(
        shown.shape == zero.shape and not bool((shown[zero] != 0).any())
        for shown in ((values, values.T) if values.ndim == 2 else (values,))
    )
