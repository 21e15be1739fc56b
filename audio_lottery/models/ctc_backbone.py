"""What every CTC family shares: alignability, loss, emission and greedy search. A family adds features and frames."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from audio_lottery.data.text import min_ctc_frames
from audio_lottery.models.base import Backbone, Emission, Hypothesis, Inputs
from audio_lottery.models.loss import ctc_loss


class CtcBackbone(Backbone):
    """A module that gives logits [batch, frames, characters], one of them the blank."""

    heads = (r"^lm_head\.", r"^ctc_head\.")

    @property
    def blank(self) -> int:
        """Id of the CTC blank: the tokenizer's pad token."""
        return int(self.processor.tokenizer.pad_token_id)

    @abstractmethod
    def logits(self, inputs: Inputs, samples: Tensor) -> Tensor:
        """[batch, frames, characters]; arguments as in `loss`."""

    def can_align(self, labels: Sequence[int], samples: int) -> bool:
        """CTC needs a frame for every label, and a blank between equal neighbours."""
        return 0 < min_ctc_frames(labels) <= int(self.frames(torch.tensor(samples)))

    def loss(self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor]) -> Tensor:
        """See `Backbone.loss`; the softmax and the sum over alignments are float32 under any autocast."""
        logits = self.logits(inputs, samples)
        with torch.autocast(logits.device.type, enabled=False):
            return ctc_loss(logits, self.frames(samples), labels, self.blank)

    def emit(self, inputs: Inputs, samples: Tensor) -> Emission:
        """Logits in float32 on the CPU."""
        return Emission(self.logits(inputs, samples).float().cpu(), self.frames(samples).tolist())

    def search(self, emission: Emission, beam: int = 1) -> list[list[Hypothesis]]:
        """Best path: the best character of each frame, repeats merged, blanks removed (Graves et al. 2006, 3.2).

        With a language model, or a ``beam`` above 1: `audio_lottery.evaluation.decoding`.
        """
        best = emission.values.argmax(dim=-1)  # of the logits: log_softmax rounds close ones to a tie
        values = emission.values.log_softmax(dim=-1).gather(-1, best.unsqueeze(-1)).squeeze(-1)
        for row, score, count in zip(best, values, emission.frames, strict=True):
            row[count:] = self.blank
            score[count:] = 0.0
        texts = self.processor.batch_decode(best)
        totals = values.sum(dim=-1, dtype=torch.float64).tolist()
        return [[Hypothesis(text, total, total, 0.0)] for text, total in zip(texts, totals, strict=True)]
