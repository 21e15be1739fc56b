"""Greedy search: at every frame the best output, until that is the blank; many utterances at once."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from audio_lottery.errors import ModelError

Memory = tuple[Tensor, Tensor]
"""Hidden and cell states of the prediction network, each [layers, utterances, size]."""


@dataclass
class Writing:
    """What has been written of an utterance so far.

    Attributes:
        labels: ids, without blanks.
        frames: frame at which each of them was written.
        score: natural log-probability of the path, blanks included.
    """

    labels: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)
    score: float = 0.0


@dataclass
class GreedyState:
    """Where the search of some utterances stands.

    Attributes:
        predicted: [utterances, size], what the prediction network says behind the labels so far.
        memory: of the prediction network.
        passed: frames of earlier calls.
        written: one an utterance.
    """

    predicted: Tensor
    memory: Memory
    passed: int
    written: list[Writing]


def predict(decoder: Any, labels: Tensor, memory: Memory | None = None) -> tuple[Tensor, Memory]:
    """A step of the prediction network.

    Args:
        decoder: has ``embedding``, ``lstm`` and ``decoder_projector``, as transformers' Parakeet has them.
        labels: [utterances], the last label of each.
        memory: behind the label before; None at the start, where the last label is the blank.

    Returns:
        [utterances, size], and the memory.
    """
    out, memory = decoder.lstm(decoder.embedding(labels[:, None]), memory)
    return decoder.decoder_projector(out[:, 0]), memory


def start(module: Any, utterances: int) -> GreedyState:
    """The state before the first frame."""
    device = module.joint.head.weight.device
    blank = torch.full((utterances,), module.config.blank_token_id, device=device)
    predicted, memory = predict(module.decoder, blank)
    return GreedyState(predicted, memory, 0, [Writing() for _ in range(utterances)])


def greedy(module: Any, encoded: Tensor, frames: list[int], state: GreedyState | None = None) -> GreedyState:
    """Read frames from left to right; every utterance has a place of its own, so none waits for another.

    RNN-T: a label keeps the place, the blank moves on by a frame, and so it does, with its own probability, behind
    ``max_symbols_per_step`` labels: the path is always one of the lattice. TDT, where the config has ``durations``: the
    best duration moves on, and the blank at least by the shortest (Xu et al. 2023, arXiv:2304.06795, section 3).

    Args:
        module: has ``decoder``, ``joint`` and ``config``, as transformers' Parakeet transducers have them.
        encoded: [utterances, frames, size]; on the module's device.
        frames: valid frames of each utterance.
        state: of the frames before, for RNN-T; changed.

    Raises:
        ModelError: an output is NaN: the model is broken, and no text can be read off it.
    """
    config, device = module.config, encoded.device
    state = state or start(module, len(frames))
    durations = list(getattr(config, "durations", None) or ())
    limit = torch.tensor(frames, device=device)
    place, symbols = torch.zeros_like(limit), torch.zeros_like(limit)
    scores = torch.tensor([one.score for one in state.written], dtype=torch.float64)
    while len(rows := (place < limit).nonzero()[:, 0]):
        logits = module.joint(state.predicted[rows], encoded[rows, place[rows]]).float()
        tokens = logits[:, : config.vocab_size].log_softmax(-1)
        best = tokens.argmax(-1)
        best[symbols[rows] >= config.max_symbols_per_step] = config.blank_token_id
        blank = best == config.blank_token_id
        step = tokens.gather(-1, best[:, None])[:, 0]
        if durations:
            jump, gain = _jump(logits[:, config.vocab_size :].log_softmax(-1), blank, durations)
            step = step + gain
        else:
            jump = blank.long()
        _check(step)
        scores[rows.cpu()] += step.double().cpu()
        written = rows[~blank]
        if len(written):
            for row, label, frame in zip(written.tolist(), best[~blank].tolist(), place[written].tolist(), strict=True):
                state.written[row].labels.append(label)
                state.written[row].frames.append(state.passed + frame)
            before = tuple(part[:, written].contiguous() for part in state.memory)
            state.predicted[written], after = predict(module.decoder, best[~blank], before)  # type: ignore[arg-type]
            for part, new in zip(state.memory, after, strict=True):
                part[:, written] = new
        place[rows] += jump
        symbols[rows] = torch.where(jump > 0, 0, symbols[rows] + 1)
    for one, score in zip(state.written, scores.tolist(), strict=True):
        one.score = score
    state.passed += max(frames, default=0)
    return state


def _jump(log_probs: Tensor, blank: Tensor, durations: list[int]) -> tuple[Tensor, Tensor]:
    """Frames to move on by, and the log-probability of that: a blank that stays would stay for ever."""
    lengths = torch.tensor(durations, device=log_probs.device)
    best = log_probs.argmax(-1)
    shortest = min((length, index) for index, length in enumerate(durations) if length > 0)[1]
    best = torch.where(blank & (lengths[best] == 0), shortest, best)
    return lengths[best], log_probs.gather(-1, best[:, None])[:, 0]


def _check(step: Tensor) -> None:
    broken = int(step.isnan().sum())
    if broken:
        raise ModelError(f"the model's output is not a number for {broken} of {len(step)} utterances of a batch")
