"""Weights that make up for those that were pruned: the layer's outputs on calibration data change as little as can be.

Source: Frantar & Alistarh 2023, "SparseGPT: Massive Language Models Can Be Accurately Pruned in One-Shot",
arXiv:2301.00774, here for a mask that is given, so that any score, pattern and allocation may have made it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audio_lottery.errors import MaskError
from audio_lottery.pruning.grams import inverses
from audio_lottery.pruning.mask import Mask
from audio_lottery.pruning.parameters import is_sharded
from audio_lottery.pruning.pattern import as_matrix
from audio_lottery.pruning.scores import ScoreInputs

# Inputs that are gone through one by one before the others are brought up to date.
_BLOCK = 128


@dataclass(frozen=True)
class Reconstruction:
    """How far a layer's outputs are from those of the dense layer, ‖(W - W')X‖² / ‖WX‖² on the calibration data.

    Attributes:
        masked: with pruned weights at zero and the others as they were.
        rebuilt: with the others moved.
    """

    masked: float
    rebuilt: float


@torch.no_grad()
def reconstruct(model: nn.Module, mask: Mask, score_inputs: ScoreInputs) -> dict[str, Reconstruction]:
    """Set pruned weights to zero and move the kept ones of the same output, in place.

    Input by input, from the first to the last: what a pruned weight contributed is spread over the inputs that are
    still to come, by the inverse of H = Σ x xᵀ (damped by a hundredth of its mean diagonal). All outputs share one H,
    so a layer costs one factorisation and one product. Layers are taken one by one, each with the inputs that it had
    when ``score_inputs`` were collected.

    Args:
        model: whose inputs ``score_inputs`` are; on any device, the work is done on the CPU.
        mask: of its parameters; tensors without a zero are left as they are.
        score_inputs: with ``grams``, see `audio_lottery.pruning.collect`.

    Returns:
        Parameter → how well that went, of the tensors that lost weights.

    Raises:
        MaskError: the mask does not fit; a parameter is sharded; ``grams`` lacks one, or do not fit it.
    """
    mask.check_fits(model)
    parameters = dict(model.named_parameters())
    done = {}
    for name, kept in mask.items():
        if bool(kept.all()):
            continue
        if is_sharded(parameters[name]):
            raise MaskError("the model is sharded; reconstruct before fully_shard, or on a whole copy")
        if score_inputs.grams is None or name not in score_inputs.grams:
            raise MaskError(f"score_inputs.grams lacks '{name}'; make it with pruning.collect(..., grams=True)")
        weight = parameters[name]
        matrix, keep = as_matrix(weight.detach().to("cpu", torch.float32)), as_matrix(kept)
        grams = score_inputs.grams[name]
        groups = list(inverses(name, grams, matrix.shape))
        rows = len(matrix) // len(groups)
        pieces = zip(groups, matrix.split(rows), keep.split(rows), strict=True)
        made = torch.cat([_rebuild(inverse, piece, kept_here) for (inverse, _), piece, kept_here in pieces])
        if not bool(torch.isfinite(made).all()):
            raise MaskError(f"'{name}' cannot be reconstructed: its inputs depend on each other; give more speech")
        whole = grams.to(torch.float32).reshape(len(groups), matrix.shape[1], matrix.shape[1])
        # an output for which going through the inputs once has made things worse stays as the mask leaves it
        masked = torch.where(keep, matrix, 0.0)
        lost, lost_masked = (_power(matrix - other, whole) for other in (made, masked))
        made = torch.where((lost <= lost_masked)[:, None], made, masked)
        power = float(_power(matrix, whole).sum())
        errors = [float(one.sum()) / power if power else 0.0 for one in (lost_masked, lost.minimum(lost_masked))]
        done[name] = Reconstruction(*errors)
        weight.copy_(made.reshape(weight.shape))
    return done


def _power(matrix: Tensor, grams: Tensor) -> Tensor:
    """‖wX‖² of every row w, from the products of pairs of inputs."""
    parts = zip(matrix.split(len(matrix) // len(grams)), grams, strict=True)
    return torch.cat([((part @ gram) * part).sum(1) for part, gram in parts])


def _rebuild(inverse: Tensor, matrix: Tensor, kept: Tensor) -> Tensor:
    """[outputs, inputs] with zeros where not ``kept``; ``inverse`` is H⁻¹."""
    factor = torch.linalg.cholesky(inverse, upper=True)
    made = matrix.clone()
    for start in range(0, made.shape[1], _BLOCK):
        end = min(start + _BLOCK, made.shape[1])
        block, keep, own = made[:, start:end], kept[:, start:end], factor[start:end, start:end]
        errors = torch.zeros_like(block)
        for column in range(end - start):
            errors[:, column] = torch.where(keep[:, column], 0.0, block[:, column]) / own[column, column]
            block[:, column:] -= errors[:, column, None] * own[column, column:]
        block[~keep] = 0.0
        made[:, end:] -= errors @ factor[start:end, end:]
    return made
