"""The probability of a text behind a prompt, in float32, for training and for the scores of hypotheses."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import GenerationConfig

from audio_lottery.models.whisper.prompt import Prompt

# Labels whose distributions over the vocabulary are in memory at once: 200 MiB of Whisper's 51,865 outputs.
_AT_ONCE = 1024


def log_likelihood(
    module: Any,
    encoded: Tensor,
    labels: Sequence[Tensor],
    prompt: Prompt,
    suppress: GenerationConfig | None = None,
    ended: Sequence[bool] | None = None,
) -> Tensor:
    """Natural log-probability of labels and the end, given the audio and the prompt.

    Args:
        module: of transformers.
        encoded: [texts, positions, size], what the encoder made of the audio of each text.
        labels: one 1-D tensor of token ids a text, without prompt and end, on the CPU.
        prompt: see `Prompt`.
        suppress: what cannot be written has no probability: the score of a search. None: the model's own.
        ended: whether each text came to its end before there was no room left; None: all did.

    Returns:
        [texts], float32.
    """
    start, end = torch.tensor(prompt.tokens), torch.tensor([prompt.end])
    ends = [True] * len(labels) if ended is None else ended
    width = max(len(one) for one in labels)
    inputs = torch.full((len(labels), len(start) + width), prompt.end)
    for row, one in zip(inputs, labels, strict=True):
        row[: len(start) + len(one)] = torch.cat([start, one])
    device = encoded.device
    # Padding stands behind the text, where the decoder does not look: no mask. The prompt predicts nothing that counts.
    states = module.model.decoder(
        input_ids=inputs.to(device), encoder_hidden_states=encoded, use_cache=False
    ).last_hidden_state[:, len(start) - 1 :]
    counts = torch.tensor([len(one) + last for one, last in zip(labels, ends, strict=True)])
    counted = torch.arange(width + 1) < counts[:, None]
    targets = torch.cat([torch.cat([one, end])[:count] for one, count in zip(labels, counts.tolist(), strict=True)])
    targets = targets.to(device)
    first = torch.zeros(len(targets), dtype=torch.bool)
    first[counts.cumsum(0) - counts] = True
    losses = torch.cat(
        [
            F.cross_entropy(_suppressed(module.proj_out(part).float(), begins, suppress), target, reduction="none")
            for part, target, begins in zip(
                states[counted.to(device)].split(_AT_ONCE), targets.split(_AT_ONCE), first.split(_AT_ONCE), strict=True
            )
        ]
    )
    return -torch.stack([part.sum() for part in losses.split(counts.tolist())])


def _suppressed(logits: Tensor, begins: Tensor, settings: GenerationConfig | None) -> Tensor:
    """[labels, outputs] without the outputs that the settings never write, or not as the first label of a text."""
    if settings is None:
        return logits
    if settings.suppress_tokens:
        logits[:, settings.suppress_tokens] = -torch.inf
    if settings.begin_suppress_tokens:
        rows = begins.nonzero()[:, 0].to(logits.device)
        logits[rows[:, None], torch.tensor(settings.begin_suppress_tokens, device=logits.device)] = -torch.inf
    return logits
