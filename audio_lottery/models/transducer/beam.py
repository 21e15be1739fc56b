"""Beam search: the texts that are likeliest over all the alignments that the beam has room for."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from audio_lottery.errors import ModelError
from audio_lottery.models.transducer.greedy import Memory, predict


@dataclass(frozen=True)
class Prefix:
    """Labels so far.

    Attributes:
        labels: ids, without blanks.
        frames: frame at which each was written, on the likeliest alignment.
        score: natural log-probability of the labels, over the alignments that were followed.
        best: that of the likeliest of them alone.
        predicted: [size], what the prediction network says behind the labels.
        memory: of the prediction network, each [layers, size].
    """

    labels: tuple[int, ...]
    frames: tuple[int, ...]
    score: float
    best: float
    predicted: Tensor
    memory: Memory

    def after_blank(self, gain: float) -> "Prefix":
        """The same labels, a frame on."""
        return replace(self, score=self.score + gain, best=self.best + gain)


def beam_search(module: Any, encoded: Tensor, beam: int) -> list[Prefix]:
    """The best label sequences of one utterance, best first (Graves 2012, arXiv:1211.3711, section 2.4).

    As torchaudio's `RNNTBeamSearch` with unnormalised scores does it: at each frame, prefixes are lengthened by the
    ``beam`` best labels as long as one of these is better than the ``beam``-th best prefix that has left the frame.

    Args:
        module: an RNN-T; has ``decoder``, ``joint`` and ``config``, as transformers' Parakeet transducers have them.
        encoded: [frames, size] of the utterance.
        beam: prefixes that are kept at every frame.

    Raises:
        ModelError: the model predicts durations, or an output is NaN.
    """
    config = module.config
    if getattr(config, "durations", None):
        raise ModelError(f"{type(module).__name__} predicts durations, which beam search does not know; use greedy")
    blank = config.blank_token_id
    predicted, memory = _predict(module, [blank], None)
    prefixes = [Prefix((), (), 0.0, 0.0, predicted[0], _row(memory, 0))]
    for frame in range(len(encoded)):
        inside, left = prefixes, dict[tuple[int, ...], Prefix]()
        for _ in range(config.max_symbols_per_step + 1):
            log_probs = module.joint(torch.stack([one.predicted for one in inside]), encoded[frame]).log_softmax(-1)
            if log_probs.isnan().any():
                raise ModelError("the model's output is not a number for an utterance")
            for one, gain in zip(inside, log_probs[:, blank].tolist(), strict=True):
                moved = one.after_blank(gain)
                left[one.labels] = _joined(left[one.labels], moved) if one.labels in left else moved
            inside = _lengthened(module, inside, log_probs, _threshold(left, beam), beam, frame)
            if not inside:
                break
        prefixes = _best(left, beam)
    return prefixes


def _lengthened(
    module: Any, inside: list[Prefix], log_probs: Tensor, threshold: float, beam: int, frame: int
) -> list[Prefix]:
    """The best continuations by one label, if they are better than the threshold."""
    scores = log_probs.double() + torch.tensor([one.score for one in inside], dtype=torch.float64)[:, None]
    scores[:, module.config.blank_token_id] = -torch.inf
    values, places = scores.flatten().topk(min(beam, scores.numel()))
    chosen = [
        (inside[place // scores.shape[1]], place % scores.shape[1], value)
        for value, place in zip(values.tolist(), places.tolist(), strict=True)
        if value > threshold
    ]
    if not chosen:
        return []
    memory = tuple(torch.stack([one.memory[part] for one, _, _ in chosen], dim=1) for part in (0, 1))
    predicted, after = _predict(module, [label for _, label, _ in chosen], memory)  # type: ignore[arg-type]
    return [
        Prefix(
            (*one.labels, label),
            (*one.frames, frame),
            score,
            one.best + score - one.score,
            predicted[index],
            _row(after, index),
        )
        for index, (one, label, score) in enumerate(chosen)
    ]


def _joined(one: Prefix, other: Prefix) -> Prefix:
    """Two ways to the same labels, with the frames of the likelier."""
    return replace(max(one, other, key=lambda prefix: prefix.best), score=float(np.logaddexp(one.score, other.score)))


def _threshold(left: dict[tuple[int, ...], Prefix], beam: int) -> float:
    scores = sorted((prefix.score for prefix in left.values()), reverse=True)
    return scores[beam - 1] if len(scores) >= beam else float("-inf")


def _best(left: dict[tuple[int, ...], Prefix], beam: int) -> list[Prefix]:
    return sorted(left.values(), key=lambda prefix: (-prefix.score, prefix.labels))[:beam]


def _predict(module: Any, labels: list[int], memory: Memory | None) -> tuple[Tensor, Memory]:
    return predict(module.decoder, torch.tensor(labels, device=module.joint.head.weight.device), memory)


def _row(memory: Memory, index: int) -> Memory:
    return memory[0][:, index], memory[1][:, index]
