"""Batches: utterances of like duration together, under a budget of padded seconds.

The order is a pure function of the seed and the position in it, so a training that is resumed at any step sees the
batches it would have seen, and every process of a distributed run computes its own share without talking to the others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from audio_lottery.data.audio import read_audio
from audio_lottery.data.seeds import utterance_rng
from audio_lottery.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset

AudioTransform = Callable[[np.ndarray, Mapping[str, Any], int], np.ndarray]
"""(samples at 16 kHz, manifest row, epoch) → samples: noise, reverberation, speed. The epoch is 0 in evaluation."""

Features = Callable[[Sequence[np.ndarray]], dict[str, Tensor]]
"""Audio of some utterances, float32 at 16 kHz, → inputs of a model. Runs in loader workers: pickles, draws nothing."""

InputMasking = Callable[[dict[str, Tensor], Tensor, Sequence[np.random.Generator]], dict[str, Tensor]]
"""(inputs, samples of each utterance, one random generator each) → inputs with masks."""

Key = tuple[int, int]
"""(epoch, row of the manifest): an utterance as it is augmented in that epoch."""


class Item(TypedDict):
    """One decoded utterance; ``heard`` is what a teacher hears of it, where that is something else than ``audio``."""

    id: str
    audio: np.ndarray
    heard: NotRequired[np.ndarray]
    labels: list[int]
    epoch: int


class Batch(TypedDict):
    """A padded batch.

    ``inputs`` holds what the model takes, named as transformers names it: ``input_values`` [batch, samples] and, where
    the feature extractor asks for it, ``attention_mask`` [batch, samples]. ``samples`` [batch] are the lengths without
    padding; ``labels`` is one 1-D tensor per utterance (empty in evaluation). ``heard`` are the inputs of a teacher,
    where they are others.
    """

    ids: list[str]
    inputs: dict[str, Tensor]
    samples: Tensor
    labels: list[Tensor]
    heard: NotRequired[dict[str, Tensor]]


class SpeechDataset(torch.utils.data.Dataset[Item]):
    """Decodes the rows of a manifest. Nothing is kept: a manifest of any length costs no memory.

    Args:
        manifest: rows as in `audio_lottery.data.manifest`.
        encode: transcript → label ids; None for evaluation, which needs no labels.
        transform: changes the audio (noise, reverberation, speed).
        heard: what a teacher hears instead: another transform, of the same length; None: the same audio.
    """

    def __init__(
        self,
        manifest: "Dataset",
        encode: Callable[[str], list[int]] | None = None,
        transform: AudioTransform | None = None,
        heard: AudioTransform | None = None,
    ) -> None:
        self._manifest = manifest
        self._encode = encode
        self._transform = transform
        self._heard = heard

    def __len__(self) -> int:
        return len(self._manifest)

    def __getitem__(self, key: int | Key) -> Item:
        epoch, index = key if isinstance(key, tuple) else (0, key)
        row = self._manifest[index]
        audio = read_audio(row["audio"], row["start"], row["end"], utterance_id=row["id"])
        changed = audio if self._transform is None else self._transform(audio, row, epoch)
        item: Item = {
            "id": row["id"],
            "audio": changed,
            "labels": self._encode(row["text"]) if self._encode else [],
            "epoch": epoch,
        }
        return item if self._heard is None else {**item, "heard": self._heard(audio, row, epoch)}


class Collator:
    """Makes a `Batch` of items.

    Args:
        features: from the audio of some utterances to the model's padded inputs.
        masking: changes the inputs of a training (SpecAugment), with one random generator an utterance.
        seed: of those generators, beside epoch and utterance id.
        teacher: features of a teacher, whose inputs are made too; None: there is none, or its inputs are the same.
    """

    def __init__(
        self, features: Features, masking: InputMasking | None = None, seed: int = 0, teacher: Features | None = None
    ) -> None:
        self._features = features
        self._teacher = teacher
        self._masking = masking
        self._seed = seed

    def __call__(self, items: list[Item]) -> Batch:
        inputs = self._features([item["audio"] for item in items])
        samples = torch.tensor([item["audio"].shape[0] for item in items])
        if self._masking is not None:
            rngs = [utterance_rng(self._seed, "specaugment", item["id"], item["epoch"]) for item in items]
            inputs = self._masking(inputs, samples, rngs)
        batch: Batch = {
            "ids": [item["id"] for item in items],
            "inputs": inputs,
            "samples": samples,
            "labels": [torch.tensor(item["labels"], dtype=torch.long) for item in items],
        }
        if self._teacher is not None:
            batch["heard"] = self._teacher([item.get("heard", item["audio"]) for item in items])
        return batch


class TrainingBatches:
    """The endless sequence of training micro-batches of one process.

    Every epoch the utterances are shuffled, sorted by duration with 10 % jitter, cut into batches whose padded duration
    stays under the budget, dealt out so that the processes of a step get batches of like size, and the steps shuffled.

    Args:
        durations: seconds of each utterance, at the slowest speed it may be played at.
        max_batch_seconds: longest utterance × number of utterances of a batch stays below this.
        seed: seed of the order.
        rank: index of this process.
        world_size: number of processes.
        padded: seconds that each utterance takes in a batch; None: its duration.

    Raises:
        ConfigError: an utterance alone is longer than the budget.
    """

    def __init__(
        self,
        durations: Sequence[float] | np.ndarray,
        max_batch_seconds: float,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        padded: np.ndarray | None = None,
    ) -> None:
        self._durations = np.asarray(durations, dtype=np.float64)
        self._padded = self._durations if padded is None else padded
        longest = float(self._padded.max())
        if longest > max_batch_seconds:
            raise ConfigError(
                f"training has an utterance of {longest:.1f} s{'' if padded is None else ' as the model pads it'} and "
                f"max_batch_seconds is {max_batch_seconds}; "
                "raise max_batch_seconds or lower data.max_seconds"
            )
        self._budget = max_batch_seconds
        self._seed = seed
        self._rank = rank
        self._world_size = world_size

    def epoch(self, epoch: int) -> list[list[int]]:
        """The batches of this process in one epoch."""
        rng = np.random.default_rng([self._seed, epoch])
        order = rng.permutation(len(self._durations))
        order = order[np.argsort(self._durations[order] * rng.uniform(0.95, 1.05, len(order)), kind="stable")]
        batches = pack(order, self._padded, self._budget)
        missing = -len(batches) % self._world_size
        batches += [batches[i % len(batches)] for i in range(missing)]  # every process needs as many batches
        steps = [batches[i : i + self._world_size] for i in range(0, len(batches), self._world_size)]
        return [steps[i][self._rank] for i in rng.permutation(len(steps))]

    def from_position(self, position: int) -> Iterator[list[Key]]:
        """The batches from micro-batch number ``position`` on, without end."""
        for epoch in count():
            batches = self.epoch(epoch)
            for batch in batches[position:]:
                yield [(epoch, index) for index in batch]
            position = max(0, position - len(batches))


def pack(order: Sequence[int] | np.ndarray, durations: np.ndarray, max_batch_seconds: float) -> list[list[int]]:
    """Cut ``order`` into runs whose longest duration × length stays within the budget; a run has at least one entry."""
    batches: list[list[int]] = []
    longest = 0.0
    for index in (int(i) for i in order):
        longest = max(longest, float(durations[index]))
        if not batches or longest * (len(batches[-1]) + 1) > max_batch_seconds:
            batches.append([])
            longest = float(durations[index])
        batches[-1].append(index)
    return batches


def make_loader(
    dataset: SpeechDataset,
    batches: Iterator[list[int]] | Iterator[list[Key]],
    collator: Callable[[list[Item]], Any],
    num_workers: int,
) -> DataLoader:
    """A DataLoader over ready-made batches; it draws nothing from torch's global random generator."""
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=collator,
        num_workers=num_workers,
        generator=torch.Generator().manual_seed(0),
        pin_memory=torch.cuda.is_available(),
    )
