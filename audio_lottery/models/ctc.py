"""CTC recognisers: load or build one with safe defaults, save it, and compute its loss."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    MODEL_FOR_CTC_MAPPING,
    AutoConfig,
    AutoFeatureExtractor,
    AutoModelForCTC,
    AutoTokenizer,
    PreTrainedModel,
    Wav2Vec2Processor,
    set_seed,
)
from transformers.utils import SAFE_WEIGHTS_NAME

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.data.text import build_processor
from audio_lottery.errors import ModelError
from audio_lottery.models.presets import PRESETS
from audio_lottery.storage import removal_reason

logger = logging.getLogger(__name__)

# A bare encoder has no output layer and no mask embedding: these may be drawn at random, nothing else.
_MAY_BE_NEW = re.compile(r"(^|\.)(lm_head|ctc_head)\.|masked_spec_embed$")

# reduction "sum" with zero_infinity off gives NaN gradients on over-long labels; layerdrop breaks DDP.
_SAFE = {"ctc_loss_reduction": "mean", "ctc_zero_infinity": True, "layerdrop": 0.0}


@dataclass(frozen=True)
class Recogniser:
    """A CTC model and the processor that feeds and reads it.

    Attributes:
        model: maps ``input_values`` [batch, samples] to ``logits`` [batch, frames, characters].
        processor: feature extractor and tokenizer; the tokenizer's pad token is the CTC blank.
    """

    model: PreTrainedModel
    processor: Wav2Vec2Processor

    @property
    def blank(self) -> int:
        """Id of the CTC blank."""
        return int(self.processor.tokenizer.pad_token_id)

    @property
    def takes_features(self) -> bool:
        """Whether the model takes mel features (Wav2Vec2-BERT, Parakeet) and not samples."""
        return "input_features" in self.processor.feature_extractor.model_input_names

    @property
    def pads_exactly(self) -> bool:
        """Whether padding a batch leaves the outputs of its utterances unchanged.

        A front end with group norm averages over time, padding included, whatever the attention mask says; convolutions
        of a model on mel features may look into padding too.
        """
        return not self.takes_features and getattr(self.model.config, "feat_extract_norm", "layer") != "group"

    def frames(self, samples: int) -> int:
        """How many output frames ``samples`` samples give.

        Raises:
            ModelError: the model takes features, not samples.
        """
        return int(self.frame_counts(torch.tensor(samples)))

    def frame_counts(self, samples: Tensor) -> Tensor:
        """The same for a tensor of lengths."""
        if self.takes_features:
            raise ModelError(
                f"{type(self.model).__name__} takes mel features; such models are evaluated here, but not trained yet"
            )
        return self.model._get_feat_extract_output_lengths(samples)

    def valid_frames(self, logits: Tensor, samples: Tensor) -> list[int]:
        """Frames of each row of an evaluation batch that are not padding.

        Where padding would change the outputs, batches hold utterances of one length (`pads_exactly`): all are valid.

        Args:
            logits: [batch, frames, characters].
            samples: [batch], samples of each utterance without padding.
        """
        if not self.pads_exactly:
            return [logits.shape[1]] * logits.shape[0]
        return self.frame_counts(samples).tolist()

    def save(self, folder: Path) -> None:
        """Write what plain ``from_pretrained`` needs: weights, config, processor."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def load_recogniser(config: ModelConfig, seed: int, specaugment: SpecAugmentConfig | None = None) -> Recogniser:
    """Build a preset, or load a Hub id or folder, with safe CTC defaults.

    Args:
        config: which model.
        seed: seed of every weight that is drawn at random.
        specaugment: masking while training; None leaves the checkpoint's own settings.

    Raises:
        ModelError: nothing there, not a CTC architecture, weights missing from the checkpoint, or an unknown override.
    """
    removed = removal_reason(Path(config.init), SAFE_WEIGHTS_NAME)
    if removed is not None:
        raise ModelError(f"{config.init} has no model: {removed}")
    masking = {} if specaugment is None else _masking(specaugment)
    try:
        if config.init in PRESETS:
            return _build(config, seed, masking)
        return _load(config, seed, masking)
    except (OSError, ValueError, KeyError) as error:
        presets = ", ".join(PRESETS)
        raise ModelError(
            f"model '{config.init}' cannot be loaded: {_first_line(error)}; "
            f"give a Hub id, a folder, or one of {presets}"
        ) from error


def _build(config: ModelConfig, seed: int, masking: dict[str, Any]) -> Recogniser:
    processor = build_processor(config.characters)
    fields = PRESETS[config.init] | masking | config.overrides | _SAFE
    architecture = AutoConfig.for_model(**fields, vocab_size=len(processor.tokenizer), **_special_ids(processor))
    set_seed(seed)
    model = AutoModelForCTC.from_config(architecture)
    return _ready(Recogniser(model, processor), config)


def _load(config: ModelConfig, seed: int, masking: dict[str, Any]) -> Recogniser:
    source = {"pretrained_model_name_or_path": config.init, "revision": config.revision}
    processor, own_tokenizer = _load_processor(config)
    architecture = AutoConfig.from_pretrained(**source)
    fields = masking | config.overrides | _SAFE | _special_ids(processor)
    if not (own_tokenizer and any(name.endswith("ForCTC") for name in architecture.architectures or ())):
        # A bare encoder gets an output layer for its tokenizer. A CTC checkpoint keeps its own: many tokenizers list
        # <s> and </s> behind the characters that the model was trained to write.
        fields["vocab_size"] = len(processor.tokenizer)
    unknown = [key for key in config.overrides if not hasattr(architecture, key)]
    if unknown:
        raise ModelError(f"model.overrides: {', '.join(unknown)} is no field of {type(architecture).__name__}")
    architecture.update(fields)
    set_seed(seed)
    if config.random_init:
        return _ready(Recogniser(AutoModelForCTC.from_config(architecture), processor), config)
    sparse = _sparse_weights(config)
    loader = AutoModelForCTC if sparse is None else MODEL_FOR_CTC_MAPPING[type(architecture)]
    weights = source if sparse is None else {"pretrained_model_name_or_path": None, "state_dict": dict(sparse)}
    try:
        model, report = loader.from_pretrained(
            **weights,
            config=architecture,
            output_loading_info=True,
            dtype=torch.float32,
            ignore_mismatched_sizes=config.reset_head,
        )
    except RuntimeError as error:  # transformers raises this for tensors whose shapes differ
        raise ModelError(
            f"the output layer or another weight of '{config.init}' does not fit its tokenizer or model.overrides: "
            f"{_first_line(error)}"
        ) from error
    # A checkpoint whose names do not match loads as random weights without a word: refuse it here.
    lost = sorted(name for name in report["missing_keys"] if not _MAY_BE_NEW.search(name))
    if lost:
        raise ModelError(
            f"the checkpoint '{config.init}' lacks {len(lost)} weights of {type(model).__name__} (first: {lost[0]}); "
            "they would be random"
        )
    if sparse is not None:
        _check_sparse(model, sparse, report, config)
    if config.reset_head:
        _draw_head(model, config.init, report, seed)
    return _ready(Recogniser(model, processor), config)


def _sparse_weights(config: ModelConfig) -> dict[str, Tensor] | None:
    """The state dict in ``model.sparse.safetensors`` of a folder or Hub id; None where there is no such file."""
    from audio_lottery.sparse.format import find_file, read  # here: its kernels load numba, which a preset does without

    file = find_file(config.init, config.revision)
    return None if file is None else read(file)


def _check_sparse(
    model: PreTrainedModel, sparse: dict[str, Tensor], report: dict[str, Any], config: ModelConfig
) -> None:
    """Every weight is the file's, in float32, bit for bit; but an output layer that is drawn anew."""
    from audio_lottery.sparse.format import check_loaded

    drawn = {*sparse, *report["missing_keys"]} if config.reset_head else report["missing_keys"]
    floats = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in sparse.items()}
    check_loaded(model, floats, report, config.init, new={name for name in drawn if _MAY_BE_NEW.search(name)})


def _draw_head(model: PreTrainedModel, init: str, report: dict[str, Any], seed: int) -> None:
    """Draw the output layer anew, whatever the checkpoint brought for it."""
    other = sorted(name for name, *_ in report["mismatched_keys"] if not _MAY_BE_NEW.search(name))
    if other:
        raise ModelError(f"weights of '{init}' do not fit model.overrides: {', '.join(other[:5])}")
    set_seed(seed)
    for name, module in model.named_modules():
        if name in ("lm_head", "ctc_head"):
            module._is_hf_initialized = False
            for parameter in module.parameters():
                parameter._is_hf_initialized = False
            model._init_weights(module)


def load_folder(folder: Path) -> Recogniser:
    """Load a folder that `Recogniser.save` wrote, weights bit for bit.

    Raises:
        ModelError: the folder is not such a model, or a weight is missing.
    """
    return load_recogniser(ModelConfig(init=str(folder)), seed=0)


def _load_processor(config: ModelConfig) -> tuple[Wav2Vec2Processor, bool]:
    """The checkpoint's own processor, or its feature extractor with a tokenizer made from ``config.characters``.

    Returns:
        The processor, and whether the tokenizer is the checkpoint's own.
    """
    source = {"pretrained_model_name_or_path": config.init, "revision": config.revision}
    extractor = AutoFeatureExtractor.from_pretrained(**source)
    if config.reset_head:
        tokenizer = build_processor(config.characters).tokenizer
        return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer), False
    try:
        tokenizer, own = AutoTokenizer.from_pretrained(**source), True
    except (OSError, ValueError, KeyError, TypeError) as error:
        logger.info("%s brings no tokenizer (%s): using model.characters", config.init, _first_line(error))
        tokenizer, own = build_processor(config.characters).tokenizer, False
    return Wav2Vec2Processor(feature_extractor=extractor, tokenizer=tokenizer), own


def _special_ids(processor: Wav2Vec2Processor) -> dict[str, Any]:
    tokenizer = processor.tokenizer
    return {
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _masking(specaugment: SpecAugmentConfig) -> dict[str, Any]:
    return {
        "apply_spec_augment": specaugment.time_prob > 0 or specaugment.feature_prob > 0,
        "mask_time_prob": specaugment.time_prob,
        "mask_time_length": specaugment.time_length,
        "mask_feature_prob": specaugment.feature_prob,
        "mask_feature_length": specaugment.feature_length,
    }


def _ready(recogniser: Recogniser, config: ModelConfig) -> Recogniser:
    if config.attention is not None:
        recogniser.model.set_attn_implementation(config.attention)
    if config.freeze_feature_encoder:
        recogniser.model.freeze_feature_encoder()
    return recogniser


def ctc_loss(logits: Tensor, frames: Tensor, labels: Sequence[Tensor], blank: int) -> Tensor:
    """CTC loss of each utterance divided by its number of labels, summed over the batch (Graves et al. 2006).

    The sum, and not the mean, so that micro-batches and processes add up to the mean over the whole batch exactly.

    Args:
        logits: [batch, frames, characters].
        frames: [batch], valid frames of each utterance.
        labels: one 1-D tensor of label ids per utterance.
        blank: id of the blank.

    Returns:
        A scalar in float32. An utterance that has no alignment counts 0.
    """
    log_probs = F.log_softmax(logits, dim=-1, dtype=torch.float32).transpose(0, 1)
    device = logits.device
    if torch.are_deterministic_algorithms_enabled() and device.type == "cuda":
        log_probs = log_probs.cpu()  # the CUDA backward of CTC adds in no fixed order
    lengths = torch.tensor([len(label) for label in labels])
    losses = F.ctc_loss(
        log_probs,
        torch.cat(list(labels)).to(log_probs.device),
        frames.cpu(),
        lengths,
        blank=blank,
        reduction="none",
        zero_infinity=True,
    )
    return (losses / lengths.clamp(min=1).to(losses.device)).sum().to(device)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
