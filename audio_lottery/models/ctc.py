"""CTC recognisers: load or build one with safe defaults, save it, and compute its loss."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    MODEL_FOR_CTC_MAPPING,
    AutoConfig,
    AutoModelForCTC,
    PreTrainedConfig,
    PreTrainedModel,
    Wav2Vec2Processor,
    set_seed,
)
from transformers.utils import SAFE_WEIGHTS_NAME

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.data.features import FeatureExtraction, input_lengths
from audio_lottery.data.text import build_processor
from audio_lottery.errors import ModelError, reading
from audio_lottery.models.checkpoint import HEAD, MAY_BE_NEW, check_folder, check_name, check_weights, without_report
from audio_lottery.models.padding import PaddingTrial, output_frames, shortest_audio, try_padding
from audio_lottery.models.presets import PRESETS
from audio_lottery.models.vocabulary import load_processor, set_fields, settle_outputs
from audio_lottery.storage import removal_reason

logger = logging.getLogger(__name__)

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

    @cached_property
    def padding(self) -> PaddingTrial:
        """What padding does to the model; tried when it is first asked for, and remembered."""
        return try_padding(self.model, FeatureExtraction(self.processor.feature_extractor), self.shortest)

    @property
    def pads_exactly(self) -> bool:
        """Whether padding a batch leaves the outputs of its utterances unchanged, in evaluation."""
        return self.padding.exact

    @cached_property
    def shortest(self) -> int:
        """Fewest samples that give an output frame; what is shorter must not be given to the model."""
        return shortest_audio(self.model, FeatureExtraction(self.processor.feature_extractor))

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
        return torch.where(samples < self.shortest, 0, output_frames(self.model, samples))

    def valid_frames(self, inputs: Mapping[str, Tensor], samples: Tensor) -> list[int]:
        """Output frames of each row of an evaluation batch that are not padding.

        A row has padding of its own kind even alone where the extractor fills up its frames to an even number.

        Args:
            inputs: of the model, as the extractor made them.
            samples: [batch], samples of each utterance without padding.
        """
        counts: list[int] = output_frames(self.model, input_lengths(inputs, samples)).tolist()
        return counts

    def save(self, folder: Path) -> None:
        """Write what plain ``from_pretrained`` needs: weights, config, processor."""
        self.model.save_pretrained(folder)
        self.processor.save_pretrained(folder)


def load_recogniser(
    config: ModelConfig, seed: int, specaugment: SpecAugmentConfig | None = None, *, new_head: bool = False
) -> Recogniser:
    """Build a preset, or load a Hub id or folder, with safe CTC defaults.

    Args:
        config: which model.
        seed: seed of every weight that is drawn at random.
        specaugment: masking while training; None leaves the checkpoint's own settings.
        new_head: whether an output layer that the checkpoint lacks may be drawn at random, because it will be trained.
            Nothing else ever is, unless ``config`` says ``reset_head`` or ``random_init``.

    Raises:
        ModelError: nothing there, a damaged file, not a CTC architecture, weights missing from the checkpoint, outputs
            without a meaning, or an unknown override.
    """
    removed = removal_reason(Path(config.init), SAFE_WEIGHTS_NAME)
    if removed is not None:
        raise ModelError(f"{config.init} has no model: {removed}")
    masking = {} if specaugment is None else _masking(specaugment)
    if config.init in PRESETS:
        return _build(config, seed, masking)
    return _load(config, seed, masking, new_head)


def load_trained(source: ModelConfig) -> Recogniser:
    """Load a model to use it as it is: every weight is the checkpoint's.

    Raises:
        ModelError: see `load_recogniser`; or a preset, whose weights are random.
    """
    if source.init in PRESETS:
        raise ModelError(f"'{source.init}' is a preset with random weights; give a folder or Hub id of a trained model")
    return load_recogniser(source, seed=0)


def load_folder(folder: Path) -> Recogniser:
    """Load a folder that `Recogniser.save` wrote, weights bit for bit.

    Raises:
        ModelError: the folder is not such a model, or a weight is missing.
    """
    return load_trained(ModelConfig(init=str(folder)))


def _build(config: ModelConfig, seed: int, masking: dict[str, Any]) -> Recogniser:
    processor = build_processor(config.characters)
    _check_overrides(AutoConfig.for_model(**PRESETS[config.init]), config)
    with reading("model.overrides", "correct them"):
        architecture = AutoConfig.for_model(**PRESETS[config.init] | masking | config.overrides | _SAFE)
        settle_outputs(architecture, processor.tokenizer, config.init, is_ctc=False)
        set_seed(seed)
        model = AutoModelForCTC.from_config(architecture)
    return _ready(Recogniser(model, processor), config)


def _load(config: ModelConfig, seed: int, masking: dict[str, Any], new_head: bool) -> Recogniser:
    init = config.init
    file = None
    if Path(init).is_dir():
        file = check_folder(Path(init), weights=not config.random_init, tokenizer=not config.reset_head)
    else:
        check_name(init)
    architecture = _architecture(config, masking)
    names = architecture.architectures or []
    if not isinstance(names, list):
        raise ModelError(f"the architectures of the config.json of '{init}' are not a list of names; make it [\"...\"]")
    is_ctc = any(name.endswith("ForCTC") for name in names) and not config.reset_head
    if names and not (is_ctc or new_head or config.reset_head or config.random_init):
        raise ModelError(
            f"'{init}' is {', '.join(names)}, not a CTC model: its output layer would be random; fine-tune it first"
        )
    takes = MODEL_FOR_CTC_MAPPING[type(architecture)].main_input_name
    processor, own_tokenizer = load_processor(config, takes, is_ctc=is_ctc and not config.random_init)
    settle_outputs(architecture, processor.tokenizer, init, is_ctc=is_ctc and own_tokenizer)
    set_seed(seed)
    if config.random_init:
        with reading(f"model '{init}' cannot be built: its config.json", "correct it, or model.overrides"):
            model = AutoModelForCTC.from_config(architecture)
        return _ready(Recogniser(model, processor), config)
    model, report, sparse = _weights(config, architecture, file or f"the weights of '{init}'")
    check_weights(model, report, config, new_head=new_head)
    if sparse is not None:
        _check_sparse(model, sparse, report, config)
    drawn = sorted(name for name in report["missing_keys"] if HEAD.search(name))
    if config.reset_head:
        _draw_head(model, seed)
    elif drawn:
        level = logging.WARNING if is_ctc else logging.INFO
        logger.log(level, "%s lacks an output layer (%s): it is drawn at random, to be trained", init, ", ".join(drawn))
    elif not is_ctc:
        raise ModelError(
            f"'{init}' has an output layer, but its config.json does not name a CTC model: add \"architectures\": "
            f'["{type(model).__name__}"] to it, or train a new output layer with --model.reset_head true'
        )
    return _ready(Recogniser(model, processor), config)


def _architecture(config: ModelConfig, masking: dict[str, Any]) -> PreTrainedConfig:
    """The checkpoint's config.json with safe CTC defaults and the user's overrides."""
    local = Path(config.init).is_dir()
    remedy = "get it again" if local else f"give a Hub id, a folder, or one of {', '.join(PRESETS)}"
    with reading(f"model '{config.init}' cannot be loaded: its config.json", remedy):
        architecture = AutoConfig.from_pretrained(config.init, revision=config.revision, trust_remote_code=False)
    if type(architecture) not in MODEL_FOR_CTC_MAPPING:
        known = ", ".join(sorted(known.model_type for known in MODEL_FOR_CTC_MAPPING))
        raise ModelError(
            f"'{config.init}' is a model of type {architecture.model_type}, which transformers has no CTC model for; "
            f"it has them for {known}"
        )
    set_fields(architecture, masking)
    _check_overrides(architecture, config)
    with reading("model.overrides", "correct them"):
        architecture.update(config.overrides)
    set_fields(architecture, _SAFE)
    return architecture


def _check_overrides(architecture: PreTrainedConfig, config: ModelConfig) -> None:
    unknown = [key for key in config.overrides if not hasattr(architecture, key)]
    if unknown:
        raise ModelError(f"model.overrides: {', '.join(unknown)} is no field of {type(architecture).__name__}")


def _weights(
    config: ModelConfig, architecture: PreTrainedConfig, file: Path | str
) -> tuple[PreTrainedModel, dict[str, Any], dict[str, Tensor] | None]:
    """The model with the checkpoint's weights, the loading info, and the state dict of a compact file."""
    init, sparse = config.init, _sparse_weights(config)
    loader = AutoModelForCTC if sparse is None else MODEL_FOR_CTC_MAPPING[type(architecture)]
    source = {"revision": config.revision} if sparse is None else {"state_dict": dict(sparse)}
    with reading(f"model '{init}' cannot be loaded: {file}, or its config.json,", "get them again"), without_report():
        try:
            model, report = loader.from_pretrained(
                init if sparse is None else None,
                **source,
                config=architecture,
                output_loading_info=True,
                dtype=torch.float32,
                weights_only=True,
                ignore_mismatched_sizes=True,  # they are told by check_weights, which names them
            )
        except UnpicklingError as error:  # torch's message tells how to run the code in the file
            raise ModelError(
                f"model '{init}' cannot be loaded: {file} is damaged, or a pickle with more than tensors in it, which "
                "is never run here; get the weights as model.safetensors"
            ) from error
    return model, report, sparse


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
    check_loaded(model, floats, report, config.init, new={name for name in drawn if MAY_BE_NEW.search(name)})


def _draw_head(model: PreTrainedModel, seed: int) -> None:
    """Draw the output layer anew, whatever the checkpoint brought for it."""
    set_seed(seed)
    for name, module in model.named_modules():
        if name in ("lm_head", "ctc_head"):
            module._is_hf_initialized = False
            for parameter in module.parameters():
                parameter._is_hf_initialized = False
            model._init_weights(module)


def _masking(specaugment: SpecAugmentConfig) -> dict[str, Any]:
    return {
        "apply_spec_augment": specaugment.time_prob > 0 or specaugment.feature_prob > 0,
        "mask_time_prob": specaugment.time_prob,
        "mask_time_length": specaugment.time_length,
        "mask_feature_prob": specaugment.feature_prob,
        "mask_feature_length": specaugment.feature_length,
    }


def _ready(recogniser: Recogniser, config: ModelConfig) -> Recogniser:
    model = recogniser.model
    if config.attention is not None:
        with reading(f"model.attention '{config.attention}'", f"it must be one that {type(model).__name__} has"):
            model.set_attn_implementation(config.attention)
    if config.freeze_feature_encoder:
        if not hasattr(model, "freeze_feature_encoder"):
            raise ModelError(f"model.freeze_feature_encoder: {type(model).__name__} has no convolutional front end")
        model.freeze_feature_encoder()
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
