"""What must hold of a Whisper checkpoint before its weights are read, and what a new model starts with."""

from typing import Any

from transformers import (
    MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING,
    AutoModelForSpeechSeq2Seq,
    GenerationConfig,
    PreTrainedConfig,
    WhisperProcessor,
)

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.pretrained import Task
from audio_lottery.models.vocabulary import has_tokenizer, load_extractor, load_tokenizer, set_fields
from audio_lottery.models.whisper.prompt import special_ids
from audio_lottery.models.whisper.tokenizer import END, NO_TIMESTAMPS, START

_CLASS = "WhisperForConditionalGeneration"

# Layerdrop breaks DDP; the module's SpecAugment changes the caller's tensors and draws from numpy's global generator.
_SAFE = {"encoder_layerdrop": 0.0, "decoder_layerdrop": 0.0, "apply_spec_augment": False}


def check_architecture(architecture: PreTrainedConfig, config: ModelConfig) -> None:
    """Raises:
    ModelError: the checkpoint does not write text, or a new output layer is asked for.
    """
    if config.reset_head:
        raise ModelError(f"model.reset_head: '{config.init}' writes with the embedding of its words; leave it out")
    names = architecture.architectures or [_CLASS]
    if _CLASS not in names:
        raise ModelError(f"'{config.init}' is {', '.join(map(str, names))}, which writes no text; give a {_CLASS}")


def new_generation(architecture: Any, tokenizer: Any) -> GenerationConfig:
    """Settings of a model with new weights: special tokens are never written, and no text is empty."""
    ids = special_ids(tokenizer, "a new model", [END, START, NO_TIMESTAMPS])
    special = sorted(set(tokenizer.all_special_ids) - {ids[END]})
    return GenerationConfig(
        max_length=architecture.max_target_positions,
        bos_token_id=ids[END],
        eos_token_id=ids[END],
        pad_token_id=ids[END],
        decoder_start_token_id=ids[START],
        no_timestamps_token_id=ids[NO_TIMESTAMPS],
        suppress_tokens=special,
        begin_suppress_tokens=[ids[END]],
        is_multilingual=False,
        return_timestamps=False,
    )


def _load_processor(config: ModelConfig, takes: str, *, is_ctc: bool) -> tuple[WhisperProcessor, bool]:
    """See `audio_lottery.models.vocabulary.load_processor`; the tokenizer is always the checkpoint's own."""
    if not has_tokenizer(config.init, config.revision):
        raise ModelError(
            f"'{config.init}' has no tokenizer, so nothing says what its outputs mean; copy tokenizer.json and "
            "tokenizer_config.json from where it was trained"
        )
    return WhisperProcessor(load_extractor(config, takes), load_tokenizer(config)), True


def _settle(architecture: Any, tokenizer: Any, init: str, *, is_ctc: bool) -> None:
    """Make configuration and tokenizer agree on the outputs; see `audio_lottery.models.vocabulary.settle_outputs`."""
    set_fields(architecture, _SAFE)
    ids = special_ids(tokenizer, init, [END, START, NO_TIMESTAMPS])
    if not is_ctc:
        end = {"bos_token_id": ids[END], "eos_token_id": ids[END], "pad_token_id": ids[END]}
        fields = {"vocab_size": len(tokenizer), "decoder_start_token_id": ids[START], "begin_suppress_tokens": None}
        set_fields(architecture, end | fields)
    beyond = max(ids.values())
    if beyond >= architecture.vocab_size:
        raise ModelError(
            f"the tokenizer of '{init}' has special tokens up to {beyond}, and the model has {architecture.vocab_size} "
            "outputs; get the tokenizer that belongs to the weights"
        )


WHISPER = Task(
    "ConditionalGeneration", AutoModelForSpeechSeq2Seq, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, _settle, _load_processor
)
"""See `Task`."""
