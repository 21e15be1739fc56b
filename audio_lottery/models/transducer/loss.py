"""The loss of transducers: frames × labels × outputs, in pieces that fit into memory."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from torchaudio.functional import rnnt_loss
from transformers.loss.loss_tdt import tdt_loss

from audio_lottery.errors import ModelError

# frames × labels × outputs of a piece where the configuration says nothing: 128 MiB of float32, and as much again for
# the gradient and for each hidden layer of a like size
JOINT_CELLS = 2**25


def transducer_loss(
    module: Any, encoded: Tensor, frames: Tensor, labels: Sequence[Tensor], cells: int = JOINT_CELLS
) -> Tensor:
    """Negative log-likelihood of each utterance, [batch], float32, under any autocast.

    RNN-T: Graves 2012, arXiv:1211.3711, by torchaudio; TDT, where the module's config has ``durations``: Xu et al.
    2023, arXiv:2304.06795, by transformers. Whole utterances are taken together as long as their padded joint has at
    most ``cells`` numbers. Where that gives several pieces, each is computed again in the backward pass, so that only
    one is in memory at a time.

    Args:
        module: has ``decoder``, ``joint`` and ``config``, as transformers' Parakeet transducers have them.
        encoded: [batch, frames, decoder size].
        frames: [batch], valid frames of each utterance.
        labels: one 1-D tensor of label ids an utterance; may be empty.
        cells: see above.

    Raises:
        ModelError: a label is the blank or no output, or an utterance has no frame: either would give a loss without
            meaning.
    """
    check_labels(labels, frames, module.config)
    blank = module.config.blank_token_id
    targets = [label.to(encoded.device) for label in labels]
    counts = torch.tensor([len(label) for label in labels])
    frames = frames.cpu()
    with torch.autocast(encoded.device.type, enabled=False):
        predicted = read_labels(module, targets)
        padded = nn.utils.rnn.pad_sequence(targets, batch_first=True, padding_value=blank)
        pieces = joint_pieces(frames.tolist(), counts.tolist(), module.joint.head.out_features, cells)
        compute = partial(_piece_loss, module)
        if len(pieces) > 1 and torch.is_grad_enabled():
            compute = partial(checkpoint, compute, use_reentrant=False, preserve_rng_state=False)
        losses = []
        for rows in pieces:
            longest, most = int(frames[rows].max()), int(counts[rows].max())
            parts = encoded[rows, :longest].float(), predicted[rows, : most + 1], padded[rows, :most]
            losses.append(compute(*parts, frames[rows], counts[rows]))
    return torch.cat(losses)


def check_labels(labels: Sequence[Tensor], frames: Tensor, config: Any) -> None:
    """Raises:
    ModelError: see `transducer_loss`.
    """
    blank, outputs = config.blank_token_id, config.vocab_size
    for number, (label, count) in enumerate(zip(labels, frames.tolist(), strict=True)):
        wrong = label[(label < 0) | (label >= outputs) | (label == blank)]
        if len(wrong):
            meaning = f"the blank, {blank}" if int(wrong[0]) == blank else f"none of the {outputs} outputs"
            raise ModelError(
                f"utterance {number} of a batch has the label {int(wrong[0])}, which is {meaning}; give the ids of its "
                "transcript only, without padding"
            )
        if count < 1:
            raise ModelError(f"utterance {number} of a batch is too short for a frame; leave it out of the training")


def read_labels(module: Any, labels: Sequence[Tensor]) -> Tensor:
    """What the prediction network says behind every prefix, [batch, labels + 1, size].

    Args:
        module: see `transducer_loss`.
        labels: one 1-D tensor an utterance, on the module's device.
    """
    blank = module.config.blank_token_id
    started = [nn.functional.pad(label, (1, 0), value=blank) for label in labels]
    predicted: Tensor = module.decoder(nn.utils.rnn.pad_sequence(started, batch_first=True, padding_value=blank))
    return predicted


def joint_pieces(frames: list[int], counts: list[int], outputs: int, cells: int) -> list[slice]:
    """Runs of utterances whose padded joint has at most ``cells`` numbers; each has at least one."""
    pieces: list[slice] = []
    start, longest, most = 0, 0, 0
    for row, (frame_count, label_count) in enumerate(zip(frames, counts, strict=True)):
        longest, most = max(longest, frame_count), max(most, label_count + 1)
        if row > start and (row + 1 - start) * longest * most * outputs > cells:
            pieces.append(slice(start, row))
            start, longest, most = row, frame_count, label_count + 1
    return [*pieces, slice(start, len(frames))]


def _piece_loss(
    module: Any, encoded: Tensor, predicted: Tensor, targets: Tensor, frames: Tensor, counts: Tensor
) -> Tensor:
    """Joint network and loss of some utterances, trimmed to the longest of them."""
    config, device = module.config, encoded.device
    logits = module.joint(predicted[:, None], encoded[:, :, None])
    durations = getattr(config, "durations", None)
    if durations:
        losses: Tensor = tdt_loss(
            logits[..., : config.vocab_size],
            logits[..., config.vocab_size :],
            targets,
            frames.to(device),
            counts.to(device),
            config.blank_token_id,
            list(durations),
            reduction="none",
        )
        return losses
    found: Tensor = rnnt_loss(
        logits.contiguous(),
        targets.to(torch.int32).contiguous(),
        frames.to(device, torch.int32),
        counts.to(device, torch.int32),
        blank=config.blank_token_id,
        reduction="none",
    )
    return found
