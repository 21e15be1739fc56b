"""What padding does to a model, and how short an utterance may be: found by trial, not by the model's name.

Whether an utterance gives the same outputs alone and padded beside a longer one depends on the architecture, on its
configuration (group norm, adapters, squeezing) and on what the feature extractor tells it (the attention mask). A list
of names would be wrong for the next of them.
"""

import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.features import FeatureExtraction, input_lengths
from audio_lottery.errors import ModelError

# Samples of the trial's utterances beyond the shortest that the model takes. Models that pool or stride look into the
# padding only where an utterance ends inside a window, so there are several: even and odd numbers of 10 ms and of 20 ms
# frames, and not multiples of 4 or 8 only.
_BEYOND_SHORTEST = (700, 1400, 2500)

# Samples of padding behind the longest of them.
_PADDING = 2000

# Largest change, as a share of the outputs' standard deviation over time, that is put down to rounding. In float32
# rounding came to at most 3e-5, and the smallest leak among transformers' CTC architectures to 2e-2, most to more than
# 1. Rounding above the limit (half precision) counts as a leak: that costs time, the contrary costs words.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class PaddingTrial:
    """What a trial showed.

    Attributes:
        exact: padding a batch leaves the outputs of its utterances unchanged, and their frames can be told from it.
        keeps_state: the model's modules remember something of a forward pass (rotary positions of Wav2Vec2-Conformer),
            so two at once may mix up.
    """

    exact: bool
    keeps_state: bool


def output_frames(model: PreTrainedModel, lengths: Tensor) -> Tensor:
    """Output frames by the model's own formula; 0 where that is negative.

    Args:
        model: a CTC model.
        lengths: [...], of its inputs without padding: samples, or frames of mel features.
    """
    formula = getattr(model, "_get_feat_extract_output_lengths", None) or model._get_subsampling_output_length
    return formula(lengths).to(torch.long).clamp(min=0)


def compute_logits(model: PreTrainedModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Run a model on inputs that lie anywhere, where it is and in its own precision.

    Returns:
        [batch, frames, characters] in float32 on the CPU.
    """
    weight = next((weight for weight in model.parameters() if weight.is_floating_point()), torch.zeros(()))
    moved = {
        name: tensor.to(weight.device, weight.dtype if tensor.is_floating_point() else None, non_blocking=True)
        for name, tensor in inputs.items()
    }
    logits: Tensor = model(**moved).logits
    return logits.float().cpu()


def shortest_audio(model: PreTrainedModel, extract: FeatureExtraction) -> int:
    """The fewest samples that give an output frame: with less some extractors and models fail, others give NaN.

    Raises:
        ModelError: a second of audio is not enough.
    """

    def gives_frame(samples: int) -> bool:
        try:
            inputs = extract([_noise(samples)])
        except (RuntimeError, ValueError, IndexError):
            return False
        frames = output_frames(model, input_lengths(inputs, torch.tensor([samples])))
        return all(bool(tensor.isfinite().all()) for tensor in inputs.values()) and int(frames) > 0

    def is_taken(samples: int) -> bool:
        try:
            compute_logits(model, extract([_noise(samples)]))
        except (RuntimeError, ValueError, IndexError, ModelError):
            return False
        return True

    with _trial(model), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # extractors divide by the number of frames
        samples = _first(gives_frame, 1)
        if samples < SAMPLE_RATE and not is_taken(samples):
            samples = _first(is_taken, samples)  # SEW pools frames before it writes any
    if samples == SAMPLE_RATE:
        raise ModelError(
            f"{type(model).__name__} and {type(extract.extractor).__name__} give no output for a second of audio; "
            "the model's configuration and its preprocessor_config.json may not belong together"
        )
    return samples


def try_padding(model: PreTrainedModel, extract: FeatureExtraction, shortest: int) -> PaddingTrial:
    """Run a few short utterances of noise alone and padded beside a longer one, and compare.

    Deterministic; leaves random generators and the model's mode as they were. The model is run in evaluation mode,
    where it is, in its own precision.

    Args:
        model: the model as it will be evaluated.
        extract: makes its inputs.
        shortest: see `shortest_audio`.
    """
    audio = [_noise(shortest + samples) for samples in _BEYOND_SHORTEST]
    audio.append(_noise(audio[-1].shape[0] + _PADDING))
    with _trial(model):
        together, frames = _forward(model, extract, audio)
        state = _attributes(model)
        speech = torch.cat([row[:count] for row, count in zip(together, frames, strict=True)])
        tolerance = _TOLERANCE * float(speech.std(dim=0).mean())
        exact = True
        for samples, row, count in zip(audio[:-1], together, frames, strict=False):
            [alone], [own_count] = _forward(model, extract, [samples])
            # Outputs that do not move at all show nothing: no proof, so no.
            exact = own_count == count and _differ_by(alone[:count], row[:count]) <= tolerance and tolerance > 0
            if not exact:
                break
        after = _attributes(model)
    return PaddingTrial(exact, any(after.get(name) is not value for name, value in state.items()))


def _forward(model: PreTrainedModel, extract: FeatureExtraction, audio: list[np.ndarray]) -> tuple[Tensor, list[int]]:
    """Logits, and frames of each utterance without padding."""
    inputs = extract(audio)
    samples = torch.tensor([utterance.shape[0] for utterance in audio])
    return compute_logits(model, inputs), output_frames(model, input_lengths(inputs, samples)).tolist()


def _differ_by(first: Tensor, second: Tensor) -> float:
    """Largest difference; infinite where the shapes differ, NaN where the values are."""
    return float((first - second).abs().max()) if first.shape == second.shape else float("inf")


def _attributes(model: PreTrainedModel) -> dict[tuple[str, str], Any]:
    """Everything that the modules hold beside parameters."""
    return {
        (name, attribute): value
        for name, module in model.named_modules()
        for attribute, value in (*vars(module).items(), *module._buffers.items())
    }


def _noise(samples: int) -> np.ndarray:
    """White noise that is not centred: silence, or a mean of zero, would hide what normalisation does."""
    noise = np.random.default_rng(samples).normal(0.05, 0.1, samples)
    return noise.astype(np.float32)


def _first(holds: Callable[[int], bool], start: int) -> int:
    """The smallest number of samples from ``start`` on for which ``holds``; a second where none below does."""
    return start + bisect_left(range(start, SAMPLE_RATE), True, key=holds)


@contextmanager
def _trial(model: PreTrainedModel) -> Iterator[None]:
    """Evaluation mode without gradients; modes and random generators are put back.

    transformers draws the numbers for LayerDrop in evaluation mode too. `torch.no_grad`, because what a module keeps of
    an inference-mode pass cannot be trained with.
    """
    modes = {module: module.training for module in model.modules()}
    numpy_state = np.random.get_state()
    model.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            yield
    finally:
        np.random.set_state(numpy_state)
        for module, training in modes.items():
            module.training = training
