"""The likeliest path through a transducer's lattice, and what the module says along it.

A student that is compared with its teacher at every node of the lattice needs both joints at once, frames × labels ×
outputs. Along one path it needs frames + labels of them (Kurata & Saon 2020, "Knowledge distillation from offline to
streaming RNN transducer for end-to-end speech recognition", Interspeech).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from audio_lottery.errors import ModelError
from audio_lottery.models.transducer.loss import check_labels, joint_pieces, read_labels

_NEVER = -1e30  # not -inf: differences of it must stay numbers
_REACHED = -1e29


@dataclass(frozen=True)
class _Step:
    """One way to go on from a node of the lattice.

    Attributes:
        writes: 1 where a label is written, 0 for the blank.
        frames: how many frames it moves on.
        scores: [batch, frames, labels + 1], log-probability of it at every node.
    """

    writes: int
    frames: int
    scores: Tensor


def output_parts(module: Any) -> tuple[int, ...]:
    """Labels, and durations where the module has them: each has a softmax of its own."""
    durations = getattr(module.config, "durations", None)
    return (module.config.vocab_size, len(durations)) if durations else ()


@torch.no_grad()
def best_paths(
    module: Any, encoded: Tensor, frames: Tensor, labels: Sequence[Tensor], cells: int
) -> tuple[Tensor, Tensor]:
    """The likeliest way to write each transcript, from the first frame to behind the last.

    Args:
        module: as in `audio_lottery.models.transducer.loss.transducer_loss`.
        encoded: [batch, frames, decoder size].
        frames: [batch], valid frames of each utterance.
        labels: one 1-D tensor of label ids an utterance.
        cells: most numbers of the joint that are computed at once, if single utterances allow.

    Returns:
        [batch, points, 2], frame and number of labels before each step, zeros behind the last; and [batch] the steps.

    Raises:
        ModelError: as `transducer_loss`; or durations that no path fits into.
    """
    check_labels(labels, frames, module.config)
    targets = [label.to(encoded.device) for label in labels]
    counts, lengths = [len(label) for label in labels], frames.tolist()
    paths: list[Tensor] = []
    with torch.autocast(encoded.device.type, enabled=False):
        predicted = read_labels(module, targets)
        for rows in joint_pieces(lengths, counts, module.joint.head.out_features, cells):
            longest, most = max(lengths[rows]), max(counts[rows])
            logits = module.joint(predicted[rows, None, : most + 1], encoded[rows, :longest, None].float())
            paths += _search(_steps(module, logits, targets[rows]), lengths[rows], counts[rows])
    points = torch.tensor([len(path) for path in paths])
    return nn.utils.rnn.pad_sequence(paths, batch_first=True).to(encoded.device), points


def outputs_along(module: Any, encoded: Tensor, labels: Sequence[Tensor], path: Tensor) -> Tensor:
    """What the joint network says at the nodes of some paths, [batch, points, outputs], float32 under any autocast.

    Args:
        module: as in `best_paths`.
        encoded: [batch, frames, decoder size].
        labels: one 1-D tensor of label ids an utterance.
        path: [batch, points, 2], as `best_paths` gives it.
    """
    with torch.autocast(encoded.device.type, enabled=False):
        predicted = read_labels(module, [label.to(encoded.device) for label in labels])
        rows = torch.arange(len(encoded), device=encoded.device)[:, None]
        outputs: Tensor = module.joint(predicted[rows, path[..., 1]], encoded[rows, path[..., 0]].float())
    return outputs


def _steps(module: Any, logits: Tensor, targets: Sequence[Tensor]) -> list[_Step]:
    """All steps from every node: blank and label; with durations, each of them for every duration."""
    config = module.config
    outputs = logits[..., : config.vocab_size].log_softmax(-1)
    blank = outputs[..., config.blank_token_id]
    padded = nn.utils.rnn.pad_sequence(list(targets), batch_first=True, padding_value=config.blank_token_id)
    wanted = padded[:, None, :, None].expand(-1, outputs.shape[1], -1, -1)
    label = outputs[:, :, : padded.shape[1]].gather(-1, wanted).squeeze(-1)
    label = nn.functional.pad(label, (0, 1), value=_NEVER)  # behind the last label nothing is written
    durations = getattr(config, "durations", None)
    if not durations:
        return [_Step(0, 1, blank), _Step(1, 0, label)]
    times = logits[..., config.vocab_size :].log_softmax(-1).unbind(-1)
    lengths = list(zip(durations, times, strict=True))
    stays = [_Step(0, length, blank + time) for length, time in lengths if length > 0]  # else it would stay for ever
    return stays + [_Step(1, length, label + time) for length, time in lengths]


def _search(steps: Sequence[_Step], frames: Sequence[int], counts: Sequence[int]) -> list[Tensor]:
    """The likeliest path of each utterance, [points, 2].

    Frame by frame: what arrives from earlier frames, then labels that are written without moving on. Of those, the best
    origin of every node is a running maximum, so that the loop is over frames alone.
    """
    moving = [step for step in steps if step.frames > 0]
    writing = next((step.scores for step in steps if step.frames == 0), None)
    batch, longest, width = moving[0].scores.shape
    best: list[Tensor] = []
    came, origins = [], []
    for frame in range(longest):
        arriving = [_arrivals(step, best, frame) for step in moving]
        arrived, step_taken = torch.stack(arriving).max(0)
        if frame == 0:
            arrived = torch.full_like(arrived, _NEVER)
            arrived[:, 0] = 0.0
        if writing is None:
            score, origin = arrived, torch.arange(width, device=arrived.device).expand(batch, -1)
        else:
            written = nn.functional.pad(writing[:, frame, :-1].cumsum(-1), (1, 0))
            ahead, origin = (arrived - written).cummax(-1)
            score = ahead + written
        best.append(score)
        came.append(step_taken)
        origins.append(origin)
    taken, from_label = torch.stack(came, 1).cpu().numpy(), torch.stack(origins, 1).cpu().numpy()
    paths = []
    for row, (count, labels) in enumerate(zip(frames, counts, strict=True)):
        last = _last_frame(moving, best, row, count, labels)
        paths.append(_trace(moving, taken[row], from_label[row], last, labels))
    return paths


def _arrivals(step: _Step, best: Sequence[Tensor], frame: int) -> Tensor:
    """[batch, labels + 1], the score of coming into ``frame`` by a step."""
    origin = frame - step.frames
    if origin < 0:
        return torch.full_like(step.scores[:, 0], _NEVER)
    score = best[origin] + step.scores[:, origin]
    return nn.functional.pad(score[:, :-1], (1, 0), value=_NEVER) if step.writes else score


def _last_frame(moving: Sequence[_Step], best: Sequence[Tensor], row: int, frames: int, labels: int) -> int:
    """The frame of the last blank, which leads behind the last frame."""
    ends = {
        frames - step.frames: float(best[frames - step.frames][row, labels])
        + float(step.scores[row, frames - step.frames, labels])
        for step in moving
        if not step.writes and step.frames <= frames
    }
    last = max(ends, key=lambda frame: ends[frame], default=-1)
    if last < 0 or ends[last] < _REACHED:
        raise ModelError(
            f"no path of {labels} labels ends behind frame {frames}; the model's durations do not allow it"
        )
    return last


def _trace(moving: Sequence[_Step], taken: np.ndarray, origins: np.ndarray, frame: int, labels: int) -> Tensor:
    """Back from the last node to the first: [points, 2]."""
    nodes = [(frame, labels)]
    while True:
        first = int(origins[frame, labels])
        nodes += [(frame, label) for label in range(labels - 1, first - 1, -1)]
        if frame == 0:
            return torch.tensor(nodes[::-1])
        step = moving[int(taken[frame, first])]
        frame, labels = frame - step.frames, first - step.writes
        nodes.append((frame, labels))
