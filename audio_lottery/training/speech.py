"""What a training hears: a filtered manifest as an endless sequence of batches."""

from collections.abc import Iterator
from itertools import islice

import numpy as np
from accelerate import Accelerator
from datasets import Dataset

from audio_lottery.config import AugmentConfig, DataConfig, TrainingConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.batching import (
    AudioTransform,
    Batch,
    Collator,
    SpeechDataset,
    TrainingBatches,
    make_loader,
    pack,
)
from audio_lottery.data.filters import TrainingData, prepare_training
from audio_lottery.models.base import Backbone
from audio_lottery.training.teacher import Teacher


def filter_training(manifest: Dataset, backbone: Backbone, config: DataConfig, augment: AugmentConfig) -> TrainingData:
    """What of a manifest a backbone can be trained on; see `prepare_training`.

    Args:
        manifest: the training rows.
        backbone: what can be written, and over which audio.
        config: limits and policies.
        augment: whose speeds make utterances shorter and longer.
    """
    longest = None if backbone.longest is None else backbone.longest / SAMPLE_RATE * min(augment.speeds)
    return prepare_training(
        manifest, backbone.vocabulary, backbone.can_align, config, fastest=max(augment.speeds), longest=longest
    )


class TrainingSpeech:
    """The batches of one process; a function of (seed, position), so a resumed training hears the same.

    Attributes:
        durations: seconds of each utterance, at the slowest speed.

    Args:
        data: the filtered training set.
        backbone: gives features and SpecAugment.
        config: budget of a batch, SpecAugment and speeds.
        seed: of the order and of SpecAugment.
        accelerator: the processes that share the batches.
        augment: changes the audio; None leaves it as it is.
        num_workers: DataLoader workers.
        teacher: hears the same utterances; None: the training has none.
    """

    def __init__(
        self,
        data: TrainingData,
        backbone: Backbone,
        config: TrainingConfig,
        seed: int,
        accelerator: Accelerator,
        *,
        augment: AudioTransform | None = None,
        num_workers: int = 0,
        teacher: Teacher | None = None,
    ) -> None:
        self.data = data
        self.teacher = teacher
        self._augment = augment
        masking = backbone.masking(config.specaugment)
        self._alone = SpeechDataset(data.manifest, data.encode, augment), Collator(backbone.features, masking, seed)
        self._taught = self._alone
        if teacher is not None:
            own = masking is not None or not teacher.hears_as(backbone)
            self._taught = (
                SpeechDataset(data.manifest, data.encode, augment, teacher.clean),
                Collator(backbone.features, masking, seed, teacher.backbone.features if own else None),
            )
        self._num_workers = num_workers
        self._budget = config.max_batch_seconds
        self.durations = durations = np.asarray(data.manifest["duration"]) / min(config.augment.speeds)
        padded = backbone.padded(durations)
        self._batches = TrainingBatches(
            durations,
            config.max_batch_seconds,
            seed,
            accelerator.process_index,
            accelerator.num_processes,
            None if padded is durations else padded,
        )
        self.micro_steps_per_epoch = len(self._batches.epoch(0))

    def steps(self, config: TrainingConfig) -> int:
        """Optimiser steps of a training: as many as are asked for, or so many epochs, then at least one."""
        if config.max_steps is not None:
            return config.max_steps
        return max(1, round((config.epochs or 0) * self.micro_steps_per_epoch / config.accumulation_steps))

    def from_position(self, position: int, answered: bool = False) -> Iterator[Batch]:
        """The batches from micro-batch number ``position`` on, without end.

        Args:
            position: micro-batches before the first.
            answered: whether it is known what the teacher says, so that it need not hear anything.
        """
        order = self._batches.from_position(position)
        dataset, collator = self._alone if answered else self._taught
        return iter(make_loader(dataset, order, collator, self._num_workers))

    def met(self, config: TrainingConfig) -> np.ndarray:
        """Rows of the utterances that this process meets in a whole training, in the manifest's order."""
        seen = np.zeros(len(self.durations), dtype=bool)
        for batch in islice(self._batches.from_position(0), self.steps(config) * config.accumulation_steps):
            seen[[row for _, row in batch]] = True
            if seen.all():
                break
        return np.flatnonzero(seen)

    def for_teacher(self, rows: np.ndarray) -> Iterator[Batch]:
        """Some utterances once, as the teacher hears them, in batches that depend on nothing but ``rows``.

        The longest come first, so that memory runs out at the start or not at all.

        Raises:
            TypeError: there is no teacher.
        """
        if self.teacher is None:
            raise TypeError("there is no teacher")
        order = rows[np.argsort(-self.durations[rows], kind="stable")]
        batches = pack(order, self.teacher.backbone.padded(self.durations), self._budget)
        dataset = SpeechDataset(self.data.manifest, self.data.encode, self.teacher.clean or self._augment)
        return iter(make_loader(dataset, iter(batches), Collator(self.teacher.backbone.features), self._num_workers))
