"""What a layer's inputs have in common, damped, and the least squares that kept weights are moved by."""

from typing import NamedTuple

import torch
from torch import Tensor

from audio_lottery.errors import MaskError

# Share of the mean of the diagonal that is added to it, as in SparseGPT (Frantar & Alistarh 2023, arXiv:2301.00774).
_DAMPING = 0.01


class Grams(NamedTuple):
    """H = Σ x xᵀ over the inputs of a weight [groups · rows, in] whose groups of outputs have inputs of their own.

    Attributes:
        products: Σ x xᵀ, [groups, in, in], float32.
        damping: what is added to the diagonals, [groups, in]: a hundredth of the mean over the inputs that are not
            always zero, and 1 for those that are.
    """

    products: Tensor
    damping: Tensor

    @property
    def powers(self) -> Tensor:
        """Σ x², [groups, 1, in]."""
        return self.products.diagonal(dim1=1, dim2=2).unsqueeze(1)

    def split(self, matrix: Tensor) -> Tensor:
        """[groups · rows, in] as [groups, rows, in]."""
        return matrix.reshape(len(self.products), -1, matrix.shape[1])

    def losses(self, change: Tensor) -> Tensor:
        """‖x · change‖² over the inputs, without damping, of ``change`` [groups, rows, in]: [groups, rows]."""
        return ((change @ self.products) * change).sum(2)

    def move(self, dense: Tensor, start: Tensor, kept: Tensor, steps: int) -> Tensor:
        """Weights that are zero where not ``kept`` and whose outputs come near to those of ``dense``.

        Conjugate gradients on the damped least squares of every output, all at once, from ``start`` on: with H's
        diagonal as preconditioner and the mask applied to every direction, as in ALPS (Meng et al. 2024,
        arXiv:2406.07831). No step makes the damped loss of an output larger, and nothing is factorised.

        Args:
            dense: [groups, rows, in].
            start: the same; what is not kept of it is not looked at.
            kept: the same, bool.
            steps: of conjugate gradients.
        """
        scale = self.powers + self.damping.unsqueeze(1)
        made = torch.where(kept, start, 0.0)
        residual = self._slope(dense - made, kept)
        direction = residual / scale
        power = (residual * direction).sum(2, keepdim=True)
        for _ in range(steps):
            image = self._slope(direction, kept)
            curvature = (direction * image).sum(2, keepdim=True)
            # an output that has arrived, or has no weights, has neither slope nor curvature
            length = torch.where(curvature > 0, power / curvature, 0.0)
            made += length * direction
            residual -= length * image
            scaled = residual / scale
            before, power = power, (residual * scaled).sum(2, keepdim=True)
            direction = scaled + torch.where(before > 0, power / before, 0.0) * direction
        return made

    def _slope(self, change: Tensor, kept: Tensor) -> Tensor:
        return torch.where(kept, change @ self.products + change * self.damping.unsqueeze(1), 0.0)


def damped(name: str, grams: Tensor, shape: tuple[int, ...]) -> Grams:
    """The Gram matrices of a parameter, checked.

    Args:
        name: of the parameter, for messages.
        grams: Σ x xᵀ, [in, in] or [groups, in, in].
        shape: [outputs, inputs] of the weight as a matrix.

    Raises:
        MaskError: grams of another shape, not finite, or no sums of products.
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
    powers = whole.diagonal(dim1=1, dim2=2)
    if bool((powers < 0).any()):
        raise MaskError(f"score_inputs.grams of '{name}' has a negative diagonal; sums of squares have none")
    alive = powers > 0
    middle = powers.sum(1, keepdim=True) / alive.sum(1, keepdim=True).clamp(min=1)
    return Grams(whole, torch.where(alive, _DAMPING * middle, 1.0))
