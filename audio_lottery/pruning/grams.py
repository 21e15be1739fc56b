"""Inverses of what a layer's inputs have in common: damped, symmetric, and safe where inputs are dead or dependent."""

from collections.abc import Iterator

import torch
from torch import Tensor

from audio_lottery.errors import MaskError

# Share of the mean of the diagonal that is added to it, as in SparseGPT; more where the factorisation fails even so.
_DAMPING = (0.01, 0.1, 1.0)


def inverses(name: str, grams: Tensor, shape: tuple[int, ...]) -> Iterator[tuple[Tensor, Tensor]]:
    """For every group of outputs: H⁻¹ [in, in] of the damped H, and which inputs are dead [in].

    A dead input was zero in the whole calibration set. It counts as if it were by itself with variance 1, so that what
    is computed with H⁻¹ does not involve it.

    Args:
        name: of the parameter, for messages.
        grams: Σ x xᵀ, [in, in] or [groups, in, in].
        shape: [outputs, inputs] of the weight as a matrix.

    Raises:
        MaskError: grams of another shape, not finite, or that no damping makes positive definite.
    """
    whole = grams.detach().to("cpu", torch.float32)
    whole = whole.unsqueeze(0) if whole.ndim == 2 else whole
    size = shape[1]
    if whole.ndim != 3 or whole.shape[1:] != (size, size) or not len(whole) or shape[0] % len(whole):
        raise MaskError(
            f"score_inputs.grams of '{name}' is {tuple(grams.shape)}; the weight is a matrix of {tuple(shape)}, whose "
            f"{size} inputs need one number a pair, or that for every group of outputs"
        )
    if not bool(torch.isfinite(whole).all()):
        raise MaskError(f"score_inputs.grams of '{name}' is NaN or infinite; the model that was trained has diverged")
    for gram in whole:
        yield _inverse(name, gram)


def inverse_diagonals(name: str, grams: Tensor, shape: tuple[int, ...]) -> Tensor:
    """[groups, in], the diagonal of each H⁻¹; infinite for dead inputs. Arguments and errors as `inverses`."""
    found = [torch.where(dead, torch.inf, inverse.diagonal()) for inverse, dead in inverses(name, grams, shape)]
    return torch.stack(found)


def _inverse(name: str, gram: Tensor) -> tuple[Tensor, Tensor]:
    dead = gram.diagonal() == 0
    alive = ~dead
    middle = float(gram.diagonal()[alive].mean()) if bool(alive.any()) else 1.0
    for damping in _DAMPING:
        damped = gram + torch.diag(torch.where(dead, 1.0, damping * middle))
        factor, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            return torch.cholesky_inverse(factor), dead
    raise MaskError(f"the inputs of '{name}' cannot be told apart on the calibration set: give more or other speech")
