"""The probability of a text behind a prompt, in float32, for training and for the scores of hypotheses."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import get_ident
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from audio_lottery.models.whisper.prompt import Prompt

# Labels whose distributions over the vocabulary are in memory at once: 200 MiB of Whisper's 51,865 outputs.
_AT_ONCE = 1024


def log_likelihood(
    module: Any,
    encoded: Tensor,
    labels: Sequence[Tensor],
    prompt: Prompt,
    ended: Sequence[bool] | None = None,
) -> Tensor:
    """Natural log-probability of labels and the end, given the audio and the prompt.

    Args:
        module: of transformers.
        encoded: [texts, positions, size], what the encoder made of the audio of each text.
        labels: one 1-D tensor of token ids a text, without prompt and end, on the CPU.
        prompt: see `Prompt`.
        ended: whether each text came to its end before there was no room left; None: all did.

    Returns:
        [texts], float32.
    """
    return state_likelihood(module, label_states(module, encoded, labels, prompt), labels, prompt.end, ended)


def state_likelihood(
    module: Any, states: Tensor, labels: Sequence[Tensor], end_token: int, ended: Sequence[bool] | None = None
) -> Tensor:
    """`log_likelihood` of what `label_states` gave."""
    end = torch.tensor([end_token])
    ends = [True] * len(labels) if ended is None else ended
    counts = torch.tensor([len(one) + last for one, last in zip(labels, ends, strict=True)])
    counted = torch.arange(states.shape[1]) < counts[:, None]
    targets = torch.cat([torch.cat([one, end])[:count] for one, count in zip(labels, counts.tolist(), strict=True)])
    targets = targets.to(states.device)
    parts = zip(states[counted.to(states.device)].split(_AT_ONCE), targets.split(_AT_ONCE), strict=True)
    losses = [F.cross_entropy(module.proj_out(part).float(), target, reduction="none") for part, target in parts]
    return -torch.stack([part.sum() for part in torch.cat(losses).split(counts.tolist())])


def label_states(module: Any, encoded: Tensor, labels: Sequence[Tensor], prompt: Prompt) -> Tensor:
    """What the decoder says before every label and before the end, [texts, longest + 1, size].

    Args:
        module: of transformers.
        encoded: [texts, positions, size], what the encoder made of the audio of each text.
        labels: one 1-D tensor of token ids a text, without prompt and end, on the CPU.
        prompt: see `Prompt`.
    """
    start = torch.tensor(prompt.tokens)
    width = max(len(one) for one in labels)
    inputs = torch.full((len(labels), len(start) + width), prompt.end)
    for row, one in zip(inputs, labels, strict=True):
        row[: len(start) + len(one)] = torch.cat([start, one])
    # Padding stands behind the text, where the decoder does not look: no mask. The prompt predicts nothing that counts.
    states: Tensor = module.model.decoder(
        input_ids=inputs.to(encoded.device), encoder_hidden_states=encoded, use_cache=False
    ).last_hidden_state
    return states[:, len(start) - 1 :]


@contextmanager
def recorded_states(module: Any) -> Iterator[list[Tensor]]:
    """What the decoder says before each token of a text that it writes meanwhile, [texts, size] each.

    With these a text's probability needs no second pass of the decoder, whose keys and values of the audio cost more
    than writing a short text does.

    Args:
        module: of transformers.
    """
    states: list[Tensor] = []
    thread = get_ident()

    def keep(decoder: Any, inputs: Any, output: Any) -> None:
        if get_ident() == thread:  # other threads may write other texts with the same module
            states.append(output.last_hidden_state[:, -1])

    hook = module.model.decoder.register_forward_hook(keep)
    try:
        yield states
    finally:
        hook.remove()
