"""Whisper as a subject, in two parts: its encoder alone, and whole utterances written greedily.

How many word pieces an utterance gets is set beforehand and its end is never written, so that every contestant writes
as many, whatever its weights make of the audio. CTranslate2, which runs none of the other families, is a contestant of
both parts.
"""

from collections.abc import Callable, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, GenerationMixin

from audio_lottery.errors import ModelError
from audio_lottery.sparse.benchmark.agreement import Agreement, compare
from audio_lottery.sparse.benchmark.contestants import RUNTIMES, Call, Runtime
from audio_lottery.sparse.benchmark.settings import CTRANSLATE2
from audio_lottery.sparse.benchmark.subject import Subject

_ARCHITECTURE = "WhisperForConditionalGeneration"
# Word pieces of a second of read English: 222 transcripts of LibriSpeech have 3.02, their ends counted.
_PIECES_A_SECOND = 3.0


def subjects_of(
    name: str, module: Any, processor: Any, make_inputs: Callable[[float], Tensor], seconds: Sequence[float]
) -> list[Subject]:
    """What of a model is timed: a Whisper's encoder and whole utterances; the one forward pass of any other.

    Args:
        name: for titles.
        module: in evaluation mode.
        processor: that belongs to it; CTranslate2 converts what is saved.
        make_inputs: see `Subject`.
        seconds: lengths of audio; a whole utterance is a subject for each.
    """
    if not any(kind.__name__ == _ARCHITECTURE for kind in type(module).__mro__):
        return [Subject(name, module, module.main_input_name, make_inputs)]
    common = module, module.main_input_name, make_inputs
    torch_only = [runtime for runtime in RUNTIMES if runtime.name == "torch"]
    encoder = Subject(
        f"{name}, the encoder", *common, wrap=Hearing, runtimes=(*RUNTIMES, *ctranslate2_runtimes(processor, "encoder"))
    )
    whole = [
        Subject(
            f"{name}, whole utterances, {steps} word pieces",
            *common,
            wrap=partial(Writing, steps=steps),
            runtimes=(*torch_only, *ctranslate2_runtimes(processor, "utterance")),
            agree=same_words,
            seconds=(length,),
        )
        for length in seconds
        for steps in (steps_of(module, length),)
    ]
    return [encoder, *whole]


def steps_of(module: Any, seconds: float) -> int:
    """Word pieces that an utterance of so many seconds is taken to have."""
    room = int(module.config.max_target_positions) - len(prompt_of(module))
    return max(1, min(round(_PIECES_A_SECOND * seconds), room))


def prompt_of(module: Any) -> list[int]:
    """The tokens that come before a text without time stamps.

    Raises:
        ModelError: the model's generation settings do not name them.
    """
    settings = module.generation_config
    prompt = [settings.decoder_start_token_id]
    if getattr(settings, "is_multilingual", False):
        languages, tasks = getattr(settings, "lang_to_id", None), getattr(settings, "task_to_id", None)
        language = getattr(settings, "language", None) or "<|en|>"
        if not languages or not tasks or language not in languages:
            raise ModelError("generation_config.json names no ids of languages and tasks; set model.language, and save")
        prompt += [languages[language], tasks["transcribe"]]
    stamps = getattr(settings, "no_timestamps_token_id", None)
    return prompt if stamps is None else [*prompt, stamps]


class _Part(nn.Module):
    """A part of a model as a map from features to one tensor."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def budget(self, inputs: Tensor) -> list[tuple[str, Any]]:
        """See `AcceleratedModel.budget`."""
        from audio_lottery.sparse.runtime.model import AcceleratedModel  # numba takes a second to load

        return AcceleratedModel.budget(self, inputs)  # type: ignore[arg-type]


class Hearing(_Part):
    """The encoder alone."""

    def forward(self, inputs: Tensor) -> Tensor:
        """States [batch, positions, size] of features [batch, bins, frames]."""
        states: Tensor = self.model.model.encoder(inputs).last_hidden_state
        return states


class Writing(_Part):
    """Encoder, decoder and the greedy search of transformers' `generate`.

    Args:
        model: a Whisper of transformers, or what `accelerate` made of it.
        steps: word pieces that are written.
    """

    def __init__(self, model: nn.Module, steps: int) -> None:
        super().__init__(model)
        self.steps, self.prompt = steps, prompt_of(model)
        self.never = never_written(model)
        self.settings = GenerationConfig(
            max_length=len(self.prompt) + steps,
            do_sample=False,
            num_beams=1,
            suppress_tokens=self.never,
            decoder_start_token_id=self.prompt[0],
            bos_token_id=self.never[-1],
            eos_token_id=self.never[-1],
            pad_token_id=self.never[-1],
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """Word pieces [batch, steps] of features [batch, bins, frames]."""
        ids: Tensor = GenerationMixin.generate(
            self.model,
            inputs,
            decoder_input_ids=torch.tensor(self.prompt).expand(len(inputs), -1),
            generation_config=self.settings,
        )
        return ids[:, len(self.prompt) :]


def never_written(module: Any) -> list[int]:
    """The published list of tokens that are not written, and last the end."""
    settings = module.generation_config
    end = settings.eos_token_id[0] if isinstance(settings.eos_token_id, list) else settings.eos_token_id
    return [*(token for token in settings.suppress_tokens or () if token != end), end]


def same_words(found: Tensor, reference: Tensor, precision: str) -> Agreement:
    """Whether the same words were written; in float32 all must be the same, other precisions may choose others."""
    if found.shape != reference.shape:
        return compare(found, reference, precision)
    same = float((found == reference).double().mean())
    verdict = "" if precision != "float32" or same == 1 else f"{1 - same:.0%} of the word pieces are others"
    return Agreement(None, 1 - same, same, verdict)


# Word pieces or states of features, made of a saved model that was converted, on so many threads.
_Make = Callable[[Any, Any, str, int], Call]


def ctranslate2_runtimes(processor: Any, part: str) -> list[Runtime]:
    """CTranslate2 in float32 and int8 as a contestant of a part.

    Args:
        processor: of the model.
        part: "encoder" or "utterance".
    """
    make = encoder_call if part == "encoder" else utterance_call
    return [
        Runtime(CTRANSLATE2, precision, (CTRANSLATE2,), partial(_build, processor, make, precision), any_length=True)
        for precision in ("float32", "int8")
    ]


def _build(processor: Any, make: _Make, precision: str, part: Any, inputs: Tensor, threads: int, folder: Path) -> Call:
    return make(convert(part.model, processor, folder), part, precision, threads)


def convert(module: Any, processor: Any, folder: Path, quantization: str | None = None) -> Path:
    """A Whisper as CTranslate2 has it, by its own `TransformersConverter`.

    Args:
        module: of transformers, in float32.
        processor: that belongs to it.
        folder: where the model is saved as transformers has it, and converted beside that; what is there from a call
            before is taken as it is.
        quantization: type of the weights in the file, e.g. "int8"; None keeps them.

    Returns:
        The folder with the converted model.
    """
    saved = folder / "saved"
    target = folder / (CTRANSLATE2 if quantization is None else f"{CTRANSLATE2}-{quantization}")
    if not saved.exists():
        module.save_pretrained(saved)
        processor.save_pretrained(saved)
    if not target.exists():
        converters: Any = import_module("ctranslate2.converters")
        converters.TransformersConverter(str(saved)).convert(str(target), quantization=quantization)
    return target


def _load(converted: Path, precision: str, threads: int) -> tuple[Any, Callable[[Tensor], Any]]:
    """The model, and what makes of features what it takes."""
    package: Any = import_module(CTRANSLATE2)
    model = package.models.Whisper(str(converted), device="cpu", compute_type=precision, intra_threads=threads)
    return model, lambda inputs: package.StorageView.from_array(np.ascontiguousarray(inputs.numpy()))


def encoder_call(converted: Path, part: Any, precision: str, threads: int) -> Call:
    """Features to the states of CTranslate2's encoder.

    Args:
        converted: folder with the converted model.
        part: a `Hearing`.
        precision: float32 or int8.
        threads: of CTranslate2.
    """
    model, view = _load(converted, precision, threads)
    return lambda inputs: torch.from_numpy(np.array(model.encode(view(inputs), to_cpu=True)))


def utterance_call(converted: Path, part: Any, precision: str, threads: int) -> Call:
    """Features to the word pieces that CTranslate2's greedy search writes; arguments as of `encoder_call`."""
    model, view = _load(converted, precision, threads)

    def call(inputs: Tensor) -> Tensor:
        results = model.generate(
            view(inputs),
            [part.prompt] * len(inputs),
            beam_size=1,
            # it writes at most half of this
            max_length=max(2 * part.steps, part.steps + len(part.prompt)),
            suppress_tokens=part.never,
            suppress_blank=False,
        )
        return torch.tensor([result.sequences_ids[0] for result in results])

    return call
