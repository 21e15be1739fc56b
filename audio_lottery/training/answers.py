"""What a teacher says of the speech of a training: heard once before the first step, read in every step.

Only where the teacher hears the same in every epoch (`audio_lottery.config.check`). The utterances, their order and
their batches are functions of the training alone and not of where it was interrupted, so that a training which goes on
hears the same answers again.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from tqdm import tqdm

from audio_lottery.config import TrainingConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.batching import Batch
from audio_lottery.errors import ConfigError
from audio_lottery.training.speech import TrainingSpeech
from audio_lottery.training.teacher import Teacher, Told

logger = logging.getLogger(__name__)


class Answers:
    """What a teacher says of each utterance, without padding, in the memory of the process.

    Args:
        told: utterance id → its outputs [points, outputs] and hidden states [positions, channels], on the CPU.
    """

    def __init__(self, told: Mapping[str, Told]) -> None:
        self._told = told

    def of(self, ids: Sequence[str], device: torch.device) -> Told:
        """The answers for a batch, filled up with zeros."""
        told = [self._told[one] for one in ids]
        all_predictions = [one.predictions for one in told]
        paths = [one.path for one in all_predictions if one.path is not None]

        def together(rows: list[Tensor]) -> Tensor:
            return pad_sequence(rows, batch_first=True).to(device)

        predictions = replace(
            all_predictions[0],
            logits=together([one.logits for one in all_predictions]),
            points=torch.stack([one.points for one in all_predictions]),
            path=together(paths) if paths else None,
        )
        return Told(predictions, {name: together([one.hidden[name] for one in told]) for name in told[0].hidden})


def ask(speech: TrainingSpeech, config: TrainingConfig, accelerator: Accelerator, description: str) -> Answers:
    """What the teacher says of every utterance that this process meets in a training.

    Args:
        speech: of the training, with a teacher; its module is on the CPU afterwards.
        config: the training.
        accelerator: device and precision.
        description: of the training, for messages.

    Raises:
        ConfigError: they will not fit into the memory that the settings allow.
    """
    started, teacher, rows = time.monotonic(), _teacher(speech), speech.met(config)
    expected_bytes(speech, config, accelerator)
    told: dict[str, Told] = {}
    hidden = not accelerator.is_local_main_process or None
    with tqdm(total=len(rows), desc=f"{description}: teacher", unit="utt", leave=False, disable=hidden) as progress:
        for batch in speech.for_teacher(rows):
            told |= _say(teacher, batch, accelerator)
            progress.update(len(batch["ids"]))
    teacher.backbone.module.to("cpu")
    logger.info(
        "%s: what the teacher says of %d utterances takes %.1f MB and took %.1f s",
        description,
        len(told),
        sum(map(_size, told.values())) / 1e6,
        time.monotonic() - started,
    )
    return Answers(told)


def expected_bytes(speech: TrainingSpeech, config: TrainingConfig, accelerator: Accelerator) -> int:
    """Memory that the answers will take: those for one batch, times what a second of it takes.

    Raises:
        ConfigError: more than ``training.distill.cache_gb``.
    """
    rows = speech.met(config)
    batch = next(speech.for_teacher(rows))
    size = sum(map(_size, _say(_teacher(speech), batch, accelerator).values()))
    seconds = float(batch["samples"].sum()) / SAMPLE_RATE
    expected = round(size * float(speech.durations[rows].sum()) / seconds)
    allowed = config.distill.cache_gb
    if expected > allowed * 1e9:
        raise ConfigError(
            f"training.distill.cache: what the teacher says of {len(rows):,} utterances would take about "
            f"{expected / 1e9:.3g} GB of memory in every process, and cache_gb allows {allowed:g}; raise it, or leave "
            "the cache off"
        )
    return expected


def _teacher(speech: TrainingSpeech) -> Teacher:
    if speech.teacher is None:
        raise TypeError("the training has no teacher")
    return speech.teacher


def _say(teacher: Teacher, batch: Batch, accelerator: Accelerator) -> dict[str, Told]:
    """The teacher's answers for a batch, as in a training step but each utterance by itself."""
    module = teacher.backbone.module.to(accelerator.device)
    inputs = {name: tensor.to(module.device) for name, tensor in batch["inputs"].items()}
    with accelerator.autocast():
        told = teacher.say(inputs, batch["samples"], batch["labels"])
    whole = told.predictions
    logits = whole.logits if teacher.settings.weight > 0 else whole.logits[..., :0]  # else nobody reads them
    whole = replace(whole, logits=logits.cpu(), path=None if whole.path is None else whole.path.cpu())
    hidden = {name: state.cpu() for name, state in told.hidden.items()}
    # A hidden layer has a position for every point or for every frame; which, shows in the student's batch.
    reach = torch.maximum(whole.points, teacher.backbone.frames(batch["samples"])).tolist()
    answers = {}
    for row, (name, count) in enumerate(zip(batch["ids"], whole.points.tolist(), strict=True)):
        own = replace(
            whole,
            logits=whole.logits[row, :count].clone(),
            points=whole.points[row],
            path=None if whole.path is None else whole.path[row, :count].clone(),
        )
        answers[name] = Told(own, {layer: state[row, : reach[row]].clone() for layer, state in hidden.items()})
    return answers


def _size(told: Told) -> int:
    """Bytes of the answer for an utterance."""
    path = [] if told.predictions.path is None else [told.predictions.path]
    return sum(tensor.nbytes for tensor in (told.predictions.logits, *path, *told.hidden.values()))
