"""What scores that need data gather over some training speech."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from audio_lottery import pruning
from audio_lottery.data.batching import Batch, Collator, SpeechDataset, make_loader, pack
from audio_lottery.data.filters import TrainingData
from audio_lottery.models.base import Backbone
from audio_lottery.models.loss import per_label
from audio_lottery.pruning import ScoreInputs


def calibrate(
    backbone: Backbone,
    data: TrainingData,
    names: Sequence[str],
    needs: Sequence[str],
    utterances: int,
    max_batch_seconds: float,
) -> ScoreInputs:
    """Gather over utterances evenly spread over a training set, without augmentation.

    Args:
        backbone: the model.
        data: its training set, filtered and encoded.
        names: parameters to gather for.
        needs: fields of `ScoreInputs`: activations, saliency, grams.
        utterances: at most as many as there are.
        max_batch_seconds: of a batch, padding counted.

    Raises:
        MaskError: as `audio_lottery.pruning.collect`.
    """
    rows = np.linspace(0, len(data.manifest) - 1, min(utterances, len(data.manifest))).round()
    manifest = data.manifest.select(rows.astype(int))
    batches = pack(range(len(manifest)), backbone.padded(np.asarray(manifest["duration"])), max_batch_seconds)
    loader = make_loader(SpeechDataset(manifest, data.encode), iter(batches), Collator(backbone.features), 0)

    def loss(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        return per_label(backbone.loss(batch["inputs"], batch["samples"], batch["labels"]), batch["labels"])

    def read() -> Iterator[Batch]:
        yield from loader

    wanted = {field: field in needs for field in ("activations", "saliency", "grams")}
    return pruning.collect(backbone.module, list(names), read(), loss=loss, **wanted)
