"""How important a weight is: pure functions from weights to scores of the same shapes; larger means keep.

Every score here looks at one tensor at a time, so calling it tensor by tensor gives the same numbers. A score of one's
own is any function of the same signature; it is called once, with all tensors.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from audio_lottery.errors import MaskError
from audio_lottery.pruning.grams import Grams, damped
from audio_lottery.pruning.mask import Mask
from audio_lottery.pruning.pattern import as_matrix

# Of `obs`: the share of weights that a stage keeps, the steps that move them, and the share after which ranks stay.
_STAGE, _STAGE_STEPS, _LEAST = 0.85, 4, 0.1


@dataclass(frozen=True)
class ScoreInputs:
    """What a score may look at besides the weights.

    Attributes:
        activations: parameter → ‖x_j‖₂ of every input feature j over a calibration set, flattened as the patterns
            flatten the parameter: [in] for a linear layer, [in/groups·kernel] for a convolution.
        saliency: parameter → |w · ∂L/∂w| accumulated over a calibration set, of the parameter's shape.
        movement: parameter → -Σ lr · w · ∂L/∂w accumulated over training, signed, of the parameter's shape.
        grams: parameter → Σ x xᵀ over its inputs x on a calibration set, [in, in], of grouped convolutions
            [groups, in, in], inputs in the order of ``activations``.
        seed: of the random score.
        wanted: parameter → how many of its weights will be kept, where that is known before they are scored and they
            are ranked among themselves; `prune` says so. The others need no ranks among those that go.
    """

    activations: Mapping[str, Tensor] | None = None
    saliency: Mapping[str, Tensor] | None = None
    movement: Mapping[str, Tensor] | None = None
    grams: Mapping[str, Tensor] | None = None
    seed: int = 0
    wanted: Mapping[str, int] | None = None


Score = Callable[[Mapping[str, Tensor], Mask | None, ScoreInputs], dict[str, Tensor]]


def magnitude(
    weights: Mapping[str, Tensor], among: Mask | None = None, score_inputs: ScoreInputs | None = None
) -> dict[str, Tensor]:
    """|w| (Han et al. 2015, arXiv:1506.02626).

    Raises:
        MaskError: a weight is NaN or infinite.
    """
    return {name: torch.from_numpy(np.abs(_weight(name, weight).numpy())) for name, weight in weights.items()}


def lamp(
    weights: Mapping[str, Tensor], among: Mask | None = None, score_inputs: ScoreInputs | None = None
) -> dict[str, Tensor]:
    """w_u² / Σ_{v ≥ u} w_v², weights of a tensor in ascending order of magnitude, equal ones in order of their index.

    The share of a weight in what is left of its tensor when all smaller ones are gone (Lee et al. 2021,
    arXiv:2010.07611); ranked globally, it chooses the layers' densities by itself. Sums are in float64. Weights that
    ``among`` prunes are absent: they count in no sum and score 0. So do all weights of
    a tensor of zeros, where the formula says 0/0.

    Raises:
        MaskError: a weight is NaN or infinite.
    """

    return {name: _lamp(_weight(name, weights[name]), None if among is None else among[name]) for name in weights}


def random(
    weights: Mapping[str, Tensor], among: Mask | None = None, score_inputs: ScoreInputs | None = None
) -> dict[str, Tensor]:
    """Uniform random numbers in [0, 1), a function of (``score_inputs.seed``, name, shape) and of nothing else.

    Raises:
        MaskError: a weight is NaN or infinite.
    """
    seed = (score_inputs or ScoreInputs()).seed
    return {name: uniform(name, _weight(name, weight).shape, seed) for name, weight in weights.items()}


def taylor(
    weights: Mapping[str, Tensor], among: Mask | None = None, score_inputs: ScoreInputs | None = None
) -> dict[str, Tensor]:
    """|w · ∂L/∂w| over a calibration set: how much the loss changes to first order when the weight is removed.

    Molchanov et al. 2017, arXiv:1611.06440.

    Raises:
        MaskError: ``score_inputs.saliency`` is absent or does not fit, or a number is NaN, infinite or negative.
    """
    found = _score_inputs("taylor", "saliency", "|weight x gradient| on a calibration set", weights, score_inputs)
    scores = {}
    for name, weight in weights.items():
        _weight(name, weight)
        scores[name] = _same_shape(name, "saliency", found[name], weight)
        if bool((scores[name] < 0).any()):
            raise MaskError(f"score_inputs.saliency of '{name}' has negative numbers; it is a sum of absolute values")
    return scores


def wanda(
    weights: Mapping[str, Tensor], among: Mask | None = None, score_inputs: ScoreInputs | None = None
) -> dict[str, Tensor]:
    """|w_ij| · ‖x_j‖₂, the weight times the norm of its input feature (Sun et al. 2024, arXiv:2306.11695).

    The paper compares weights within each output row only: `prune` does so with ``allocation="uniform"`` and pattern
    ``unstructured``, and N:M patterns do so by nature. With other allocations the scores are compared between rows.

    Raises:
        MaskError: ``score_inputs.activations`` is absent or does not fit, or a number is NaN, infinite or negative.
    """
    found = _score_inputs("wanda", "activations", "the norms of every layer's inputs", weights, score_inputs)
    scores = {}
    for name, weight in weights.items():
        matrix = as_matrix(_weight(name, weight))
        norms = _finite(name, "score_inputs.activations", found[name].detach().to("cpu", torch.float32).reshape(-1))
        if norms.numel() not in (matrix.shape[1], matrix.numel()):
            raise MaskError(
                f"score_inputs.activations of '{name}' has {norms.numel()} numbers; its {matrix.shape[1]} inputs need "
                "one each, or one for each output (grouped convolutions)"
            )
        if bool((norms < 0).any()):
            raise MaskError(f"score_inputs.activations of '{name}' has negative numbers; norms are none")
        rows = norms.numel() // max(1, matrix.shape[1])
        by_row = norms.reshape(rows, matrix.shape[1]) if matrix.numel() else torch.ones(matrix.shape)
        scores[name] = torch.from_numpy(np.abs(matrix.numpy()) * by_row.numpy()).reshape(weight.shape)
    return scores


def obs(
    weights: Mapping[str, Tensor], among: Mask | None = None, score_inputs: ScoreInputs | None = None
) -> dict[str, Tensor]:
    """What the layer's squared output error grows by when the weight goes, where the least important went before it.

    Optimal Brain Surgeon (Hassibi & Stork 1992) in stages, layer by layer and with one H = Σ x xᵀ for all rows of a
    group, as in SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774): the weights with the least w² · H_jj go, a share
    of those that are left; the others of their rows are moved to make up for them; then they are ranked anew. A score
    is w² · H_jj when the weight goes, on top of the highest of the stage before. No stage goes below a tenth of the
    weights, nor below those that are ``wanted``. Weights of inputs that are always zero score 0, and so do those that
    ``among`` has pruned. `audio_lottery.pruning.reconstruct` moves what is kept at last.

    Raises:
        MaskError: ``score_inputs.grams`` is absent or does not fit, or a number is NaN or infinite.
    """
    found = _score_inputs("obs", "grams", "the products of pairs of every layer's inputs", weights, score_inputs)
    wanted = (score_inputs and score_inputs.wanted) or {}
    scores = {}
    for name, weight in weights.items():
        matrix = as_matrix(_weight(name, weight))
        if not matrix.numel():
            scores[name] = torch.zeros(weight.shape)
            continue
        grams = damped(name, found[name], matrix.shape)
        kept = torch.ones_like(matrix, dtype=torch.bool) if among is None else as_matrix(among[name])
        least = max(wanted.get(name, 0), _LEAST * int(kept.sum()))
        scores[name] = _eliminated(grams, grams.split(matrix), grams.split(kept), least).reshape(weight.shape)
    return scores


def _eliminated(grams: Grams, dense: Tensor, kept: Tensor, least: float) -> Tensor:
    """See `obs`; all [groups, rows, in]. No stage leaves fewer than ``least`` weights."""
    scores, made, below = torch.zeros_like(dense), dense, 0.0
    while True:
        losses = made.square() * grams.powers
        left = losses[kept]
        scores[kept] = below + left
        staying = int(_STAGE * len(left))
        if staying < least or staying == len(left):
            return scores
        cut = float(left.kthvalue(len(left) - staying).values)
        below += cut
        kept = kept & (losses > cut)
        made = grams.move(dense, made, kept, _STAGE_STEPS)


def movement(
    weights: Mapping[str, Tensor], among: Mask | None = None, score_inputs: ScoreInputs | None = None
) -> dict[str, Tensor]:
    """-Σ lr · w · ∂L/∂w over training: positive where training moved the weight away from zero.

    Sanh et al. 2020, arXiv:2005.07683. Signed: a weight that moved towards zero ranks below one that stood still.

    Raises:
        MaskError: ``score_inputs.movement`` is absent or does not fit, or a number is NaN or infinite.
    """
    found = _score_inputs("movement", "movement", "-lr x weight x gradient summed over training", weights, score_inputs)
    for name, weight in weights.items():
        _weight(name, weight)
    return {name: _same_shape(name, "movement", found[name], weight) for name, weight in weights.items()}


@dataclass(frozen=True)
class ScoreKind:
    """A score, and what the rest of the package must know of it.

    Attributes:
        function: the score.
        needs: what it looks at: ``weights`` alone, or the field of `ScoreInputs` that it needs besides.
        tensor_by_tensor: one tensor at a time gives the same numbers, so that not all scores are in memory at once.
        is_magnitude: it is |w|, which the selection can take by itself.
        within_rows: its paper compares weights within an output row; so does ``allocation="uniform"``.
    """

    function: Score
    needs: Literal["weights", "activations", "saliency", "movement", "grams"] = "weights"
    tensor_by_tensor: bool = True
    is_magnitude: bool = False
    within_rows: bool = False


SCORES: dict[str, ScoreKind] = {
    "magnitude": ScoreKind(magnitude, is_magnitude=True),
    "lamp": ScoreKind(lamp),
    "random": ScoreKind(random),
    "taylor": ScoreKind(taylor, needs="saliency"),
    "wanda": ScoreKind(wanda, needs="activations", within_rows=True),
    "movement": ScoreKind(movement, needs="movement"),
    "obs": ScoreKind(obs, needs="grams"),
}
"""Name → score. A new one is a line here, or a function that is given to `prune`."""


def uniform(name: str, shape: torch.Size, seed: int, purpose: str = "score") -> Tensor:
    """Uniform random float32 in [0, 1) of ``shape``, the same for the same (purpose, seed, name) on every machine."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{name}".encode()).digest()
    generator = np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16])))
    return torch.from_numpy(generator.random(tuple(shape), dtype=np.float32))


def _lamp(weight: Tensor, kept: Tensor | None) -> Tensor:
    values = np.abs(weight.numpy().reshape(-1))
    scores = np.zeros(values.size, dtype=np.float32)
    where = None if kept is None or bool(kept.all()) else np.flatnonzero(kept.numpy())
    if where is not None:
        values = values[where]
    if values.any():  # else all sums are 0
        order = _stable_order(values)
        shares = values[order].astype(np.float64)
        shares *= shares
        shares /= np.cumsum(shares[::-1])[::-1]
        scores[order if where is None else where[order]] = shares.astype(np.float32)
    return torch.from_numpy(scores.reshape(tuple(weight.shape)))


def _stable_order(values: np.ndarray) -> np.ndarray:
    """Indices that sort non-negative float32 ``values`` ascending, equal ones by index.

    Such floats sort like their bits, and torch sorts integers by radix, several times faster than floats.
    """
    return torch.sort(torch.from_numpy(values.view(np.int32)), stable=True).indices.numpy()


def _weight(name: str, weight: Tensor) -> Tensor:
    return _finite(name, "weights", weight.detach().to("cpu", torch.float32))


def _finite(name: str, what: str, tensor: Tensor) -> Tensor:
    values = tensor.numpy()
    if values.size and not (values.min() > -np.inf and values.max() < np.inf):
        raise MaskError(f"'{name}' has {what} that are NaN or infinite; the model that was trained has diverged")
    return tensor


def _score_inputs(
    score: str, field: str, what: str, weights: Mapping[str, Tensor], score_inputs: ScoreInputs | None
) -> Mapping[str, Tensor]:
    found: Mapping[str, Tensor] = getattr(score_inputs, field, None) or {}
    missing = [name for name in weights if name not in found]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        maker = "MovementAccumulator in training" if field == "movement" else "collect on some batches"
        raise MaskError(
            f"score '{score}' needs score_inputs.{field} ({what}), which lacks {', '.join(missing[:3])}{more}; make "
            f"it with pruning.{maker} and pass it as score_inputs"
        )
    return found


def _same_shape(name: str, field: str, tensor: Tensor, weight: Tensor) -> Tensor:
    if tensor.shape != weight.shape:
        raise MaskError(
            f"score_inputs.{field} of '{name}' is {tuple(tensor.shape)}; the weight is {tuple(weight.shape)}"
        )
    return _finite(name, f"score_inputs.{field}", tensor.detach().to("cpu", torch.float32))
