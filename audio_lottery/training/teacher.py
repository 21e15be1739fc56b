"""A model that another learns from (Hinton et al. 2015, arXiv:1503.02531)."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audio_lottery.config import DistillConfig
from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.batching import AudioTransform, Batch
from audio_lottery.errors import ConfigError, ModelError
from audio_lottery.models.base import Backbone, Inputs, Predictions
from audio_lottery.models.loss import divergence, within

# Lengths at which two models must have as many frames, in samples.
_LENGTHS = tuple(int(seconds * SAMPLE_RATE) for seconds in (1.0, 1.37, 2.5, 4.0, 7.3, 10.0))

# Positions of hidden states that may lie behind the last frame of the longest utterance: fillers of some extractors.
_FILLERS = 2


@dataclass(frozen=True, slots=True)
class Told:
    """What a teacher says of a batch.

    Attributes:
        predictions: its outputs.
        hidden: [batch, positions, channels], what its compared modules put out, by name.
    """

    predictions: Predictions
    hidden: dict[str, Tensor]

    def as_long_as(self, said: Predictions, here: Mapping[str, Tensor]) -> "Told":
        """The same with as many points and positions as a student has, which pads a batch in its own way.

        Args:
            said: by the student of the same batch.
            here: its hidden states.

        Raises:
            ModelError: points of an utterance that are not the student's.
        """
        theirs, ours = self.predictions.points, said.points
        if not torch.equal(theirs, ours):
            raise ModelError(
                f"training.distill.cache: the teacher has {theirs.tolist()} points for the utterances of a batch and "
                f"the model {ours.tolist()}, so that padding must count for one of them; leave the cache off"
            )
        logits = _places(self.predictions.logits, said.logits.shape[1])
        hidden = {name: _places(state, here[name].shape[1]) for name, state in self.hidden.items()}
        return Told(replace(self.predictions, logits=logits), hidden)


class Teacher:
    """A trained model that says what it would, without gradients and without drawing anything at random.

    It is no part of the student: it is neither trained nor saved. What it costs is a forward pass, or what it says is
    known already (`audio_lottery.training.answers`).

    Args:
        backbone: the model; put into evaluation mode.
        settings: what of it is learned, and how much.
        name: for messages and records.
        clean: what it hears instead of the student's speech (`DistillConfig.clean_teacher`); None: the same.
    """

    def __init__(
        self, backbone: Backbone, settings: DistillConfig, name: str, clean: AudioTransform | None = None
    ) -> None:
        self.backbone = backbone
        self.settings = settings
        self.name = name
        self.clean = clean
        backbone.module.eval().requires_grad_(False)

    def hears_as(self, student: Backbone) -> bool:
        """Whether the student's inputs, without masks, are the teacher's too."""
        ours, theirs = (one.processor.feature_extractor for one in (self.backbone, student))
        return self.clean is None and type(ours) is type(theirs) and ours.to_dict() == theirs.to_dict()

    def losses(
        self,
        student: Backbone,
        inputs: Inputs,
        samples: Tensor,
        labels: Sequence[Tensor],
        heard: Inputs | None = None,
        answer: Told | None = None,
    ) -> Tensor:
        """What a student has to lower: labels, divergence and hidden states of each utterance, weighted, [batch].

        Args:
            student: is trained.
            inputs: of one batch, on the student's device.
            samples: [batch], samples of each utterance without padding, on the CPU.
            labels: one 1-D tensor of label ids an utterance, on the CPU.
            heard: inputs of the teacher, where they are others.
            answer: what the teacher says, where that is known; None: it is asked.

        Raises:
            ConfigError: hidden states that cannot be compared.
            ModelError: outputs that cannot be compared.
        """
        settings = self.settings
        told = self.say(inputs if heard is None else heard, samples, labels) if answer is None else answer
        with _put_out(student.module, self._layers(student.module)) as here:
            said = student.predict(inputs, samples, labels, told.predictions)
        if answer is not None:
            told = answer.as_long_as(said, here)
        if said.losses is None:
            raise TypeError(f"{type(student).__name__}.predict gives a student no losses")
        total = settings.label_weight * said.losses
        if settings.weight > 0:
            total = total + settings.weight * divergence(said, told.predictions, settings.temperature)
        if settings.hidden_weight > 0:
            frames = student.frames(samples)
            heard_samples = torch.from_numpy(student.padded(samples.numpy() / SAMPLE_RATE) * SAMPLE_RATE)
            most = int(student.frames(heard_samples.round().long()).max())  # padding of its own included
            names = self._layers(student.module)
            errors = [
                _squared_error(name, here.get(name), told.hidden.get(name), said, (frames, most)) for name in names
            ]
            total = total + settings.hidden_weight * torch.stack(errors).mean(0)
        return total

    def check(self, student: Backbone, batch: Batch) -> None:
        """Refuse a teacher that this student cannot learn from, before anything is trained.

        Args:
            student: as it will be trained.
            batch: some of its training speech.

        Raises:
            ConfigError: another vocabulary, other outputs, another frame rate, or hidden layers that do not match;
                names them.
        """
        where = f"training.distill.teacher {self.name}"
        for one, role in ((self.backbone, "teacher"), (student, "model")):
            if not one.predicts:
                raise ConfigError(
                    f"{where}: the {role} is of the family {one.family}, which can neither teach nor be taught"
                )
        _check_vocabulary(where, self.backbone, student)
        if self.backbone.predicts != student.predicts:
            raise ConfigError(
                f"{where}: it predicts {self.backbone.predicts} ({self.backbone.family}) and the model "
                f"{student.predicts} ({student.family}); a teacher must be of the same kind"
            )
        _check_frames(where, self.backbone, student)
        layers = self._layers(student.module)
        missing = [name for name in layers if name not in dict(self.backbone.module.named_modules())]
        if missing:
            raise ConfigError(
                f"training.distill.hidden_layers: the teacher {self.name} has no module {', '.join(missing)}; name "
                "layers that both models have"
            )
        self._try(student, batch)

    def _try(self, student: Backbone, batch: Batch) -> None:
        """One batch without gradients: sizes of outputs and of hidden states show."""
        module, was_training = student.module, student.module.training
        moved = {name: tensor.to(module.device) for name, tensor in batch["inputs"].items()}
        heard = {name: tensor.to(module.device) for name, tensor in batch.get("heard", batch["inputs"]).items()}
        self.backbone.module.to(module.device)
        module.eval()
        with torch.no_grad():
            self.losses(student, moved, batch["samples"], batch["labels"], heard)
        module.train(was_training)

    def say(self, inputs: Inputs, samples: Tensor, labels: Sequence[Tensor]) -> Told:
        """The teacher's outputs and hidden states; the generators stand where they stood, for the student's dropout.

        Args:
            inputs: of one batch, on the teacher's device.
            samples: [batch], samples of each utterance without padding, on the CPU.
            labels: one 1-D tensor of label ids an utterance, on the CPU.
        """
        module = self.backbone.module
        devices = [module.device] if module.device.type == "cuda" else []
        with torch.no_grad(), torch.random.fork_rng(devices), _put_out(module, self._layers(module)) as hidden:
            return Told(self.backbone.predict(inputs, samples, labels), hidden)

    def _layers(self, module: nn.Module) -> list[str]:
        """Names of the modules whose outputs are compared.

        Raises:
            ConfigError: an expression matches none.
        """
        if self.settings.hidden_weight == 0:
            return []
        names = [name for name, _ in module.named_modules() if name]
        chosen: list[str] = []
        for pattern in self.settings.hidden_layers:
            found = [name for name in names if re.fullmatch(pattern, name)]
            if not found:
                raise ConfigError(
                    f"training.distill.hidden_layers: '{pattern}' is the name of no module of {type(module).__name__}; "
                    f"there are {', '.join(names[:3])} ... {names[-1]}"
                )
            chosen += found
        return list(dict.fromkeys(chosen))


@contextmanager
def _put_out(module: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What modules put out within the block, by name; of several values the first, of several calls the last."""
    found: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, arguments: Any, output: Any) -> None:
            found[name] = output[0] if isinstance(output, tuple) else output

        return hook

    handles = [module.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _squared_error(name: str, here: Any, there: Any, said: Predictions, room: tuple[Tensor, int]) -> Tensor:
    """Mean over the channels of the squared difference, summed over the positions of each utterance, [batch].

    Args:
        name: of the layer; here, there: what it puts out in student and teacher; said: by the student.
        room: [batch] frames of each utterance, and the most that the model makes of one with its padding.
    """
    frames, most = room
    shapes = [_shape(one) for one in (here, there)]
    if shapes[0] != shapes[1] or not isinstance(here, Tensor) or here.ndim != 3:
        raise ConfigError(
            f"training.distill.hidden_layers: '{name}' puts out {shapes[0]} in the model and {shapes[1]} in the "
            "teacher (utterances, positions, channels); name layers of equal size"
        )
    positions, longest = here.shape[1], int(frames.max())
    if positions == said.logits.shape[1]:
        counts = said.points
    elif longest <= positions <= most + _FILLERS:
        counts = frames
    else:
        raise ConfigError(
            f"training.distill.hidden_layers: '{name}' has {positions} positions for {longest} output frames; name "
            "layers with a position for every frame"
        )
    with torch.autocast(here.device.type, enabled=False):
        errors = (here.float() - there.float()).square().mean(-1)
        return torch.where(within(counts, positions).to(here.device), errors, 0.0).sum(-1)


def _places(values: Tensor, count: int) -> Tensor:
    """[batch, places, ...] with ``count`` places: those behind are left out, or are zeros."""
    return F.pad(values, (0, 0, 0, count - values.shape[1]))


def _shape(put_out: Any) -> str:
    if isinstance(put_out, Tensor):
        return str(list(put_out.shape))
    return "nothing" if put_out is None else type(put_out).__name__


def _check_vocabulary(where: str, teacher: Backbone, student: Backbone) -> None:
    theirs, ours = (one.processor.tokenizer.get_vocab() for one in (teacher, student))
    if theirs == ours:
        return
    strange = sorted(token for token in theirs.keys() ^ ours.keys())
    moved = sorted(token for token in theirs.keys() & ours.keys() if theirs[token] != ours[token])
    what = f"tokens of only one of them: {', '.join(strange[:8])}" if strange else f"other ids: {', '.join(moved[:8])}"
    raise ConfigError(
        f"{where}: it has another vocabulary than the model ({len(theirs)} and {len(ours)} tokens; {what}); use a "
        "teacher with the same one"
    )


def _check_frames(where: str, teacher: Backbone, student: Backbone) -> None:
    theirs, ours = (one.frames(torch.tensor(_LENGTHS)).tolist() for one in (teacher, student))
    if theirs == ours:
        return
    seconds = _LENGTHS[-1] / SAMPLE_RATE
    raise ConfigError(
        f"{where}: it has another frame rate than the model: {theirs[-1] / seconds:g} and {ours[-1] / seconds:g} "
        f"frames a second (frames of {', '.join(f'{length / SAMPLE_RATE:g}' for length in _LENGTHS)} s: {theirs} and "
        f"{ours})"
    )
