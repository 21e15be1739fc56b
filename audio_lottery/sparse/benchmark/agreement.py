"""Whether a contestant computes what torch in float32 computes: a wrong answer is never a fast one."""

from dataclasses import dataclass

import torch
from torch import Tensor

# float32: the largest difference of a logit. Lower precisions round; what is asked is that they compute the same model:
# the error's root mean square as a share of the logits' spread. An unrelated output has about 1.4.
FLOAT32_LIMIT = 1e-4
SHARES = {"bfloat16": 0.15, "int8": 0.5}


@dataclass(frozen=True)
class Agreement:
    """How far logits are from torch's in float32 on the same weights and audio.

    Attributes:
        largest: the largest difference of a logit; None where what is compared has none.
        share: root mean square of the differences / standard deviation of the reference.
        same_labels: share of frames whose most probable character is the same.
        verdict: empty where the precision's limit is kept, otherwise what is wrong.
        coarse: what is wrong is rounding: finite logits of the right shape, further from float32 than a lower
            precision may be.
    """

    largest: float | None
    share: float
    same_labels: float
    verdict: str
    coarse: bool = False

    @property
    def right(self) -> bool:
        """Whether the limit is kept."""
        return not self.verdict


def compare(found: Tensor, reference: Tensor, precision: str) -> Agreement:
    """Compare logits of any dtype with the reference.

    Args:
        found: what the contestant returned.
        reference: [batch, frames, characters], float32, of torch.
        precision: float32, bfloat16 or int8.
    """
    found = found.detach().to("cpu", torch.float32)
    if found.shape != reference.shape:
        return _wrong(f"its output has shape {tuple(found.shape)}, torch's {tuple(reference.shape)}")
    if not bool(torch.isfinite(found).all()):
        return _wrong("its output has NaN or infinite values")
    difference = (found - reference).double()
    largest = float(difference.abs().max())
    spread = float(reference.double().std())
    share = float(difference.square().mean().sqrt()) / spread if spread > 0 else float("inf") if largest else 0.0
    same = float((found.argmax(-1) == reference.argmax(-1)).double().mean())
    verdict, coarse = "", False
    if precision == "float32":
        if largest > FLOAT32_LIMIT:
            verdict = f"a logit differs by {largest:.2e}, more than {FLOAT32_LIMIT:g}"
    elif share > SHARES[precision]:
        verdict = f"its error is {share:.0%} of the logits' spread, more than {SHARES[precision]:.0%}"
        coarse = True
    return Agreement(largest, share, same, verdict, coarse)


def _wrong(verdict: str) -> Agreement:
    return Agreement(float("inf"), float("inf"), 0.0, verdict)
