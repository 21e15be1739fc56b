"""Models with a CTC or transducer output, of transformers or registered with it: built or loaded, safe defaults."""

import dataclasses
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor
from transformers import (
    MODEL_FOR_CTC_MAPPING,
    MODEL_FOR_RNNT_MAPPING,
    MODEL_FOR_TDT_MAPPING,
    AutoModelForCTC,
    AutoModelForRNNT,
    AutoModelForTDT,
    PreTrainedConfig,
    PreTrainedModel,
    set_seed,
)
from transformers.models.parakeet.modeling_parakeet import ParakeetPreTrainedModel

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError, reading
from audio_lottery.models.checkpoint import HEAD, MAY_BE_NEW, OpenedCheckpoint, check_weights, without_report
from audio_lottery.models.initialise import draw_all_weights
from audio_lottery.models.vocabulary import load_processor, set_fields, settle_outputs, settle_transducer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A kind of output layer, and where transformers keeps the models that have it.

    Attributes:
        name: as transformers' class names and messages spell it.
        auto: builds and loads them.
        mapping: configuration → class.
        settle: makes the configuration and the tokenizer agree on what the outputs mean.
        processor: reads a checkpoint's processor; arguments and result as of `load_processor`.
    """

    name: str
    auto: Any
    mapping: Mapping[Any, Any]
    settle: Callable[..., None] = settle_outputs
    processor: Callable[..., tuple[Any, bool]] = load_processor


CTC = Task("CTC", AutoModelForCTC, MODEL_FOR_CTC_MAPPING)
RNNT = Task("RNNT", AutoModelForRNNT, MODEL_FOR_RNNT_MAPPING, settle_transducer)
TDT = Task("TDT", AutoModelForTDT, MODEL_FOR_TDT_MAPPING, settle_transducer)

# reduction "sum" with zero_infinity off gives NaN gradients on over-long labels; layerdrop breaks DDP.
_SAFE = {"ctc_loss_reduction": "mean", "ctc_zero_infinity": True, "layerdrop": 0.0}


def build(
    architecture: PreTrainedConfig, processor: Any, config: ModelConfig, seed: int, task: Task = CTC
) -> PreTrainedModel:
    """A model with all weights drawn at random, and an output for every token of the processor.

    Args:
        architecture: sizes, before ``config.overrides``; changed in place.
        processor: its tokenizer gives the outputs.
        config: overrides, attention, freezing.
        seed: of the weights.
        task: the output layer.

    Raises:
        ModelError: overrides that the architecture does not have, or that do not go together.
    """
    override(architecture, config)
    with reading("model.overrides", "correct them"):
        task.settle(architecture, processor.tokenizer, config.init, is_ctc=False)
        model = _at_random(architecture, seed, task)
    return _ready(model, config)


def load(
    opened: OpenedCheckpoint, config: ModelConfig, seed: int, *, new_head: bool, task: Task = CTC
) -> tuple[PreTrainedModel, Any]:
    """The checkpoint ``config.init`` in float32, and its processor.

    Args:
        opened: the checkpoint; its architecture is changed in place.
        config: which checkpoint, and how it is run.
        seed: of every weight that is drawn at random.
        new_head: whether an output layer that the checkpoint lacks may be drawn at random, because it will be trained.
            Nothing else ever is, unless ``config`` says ``reset_head`` or ``random_init``.
        task: the output layer.

    Raises:
        ModelError: a damaged file, weights missing from the checkpoint, outputs without a meaning, or an unknown
            override.
    """
    init, architecture = config.init, opened.architecture
    override(architecture, config)
    names = architecture.architectures or []
    if not isinstance(names, list):
        raise ModelError(f"the architectures of the config.json of '{init}' are not a list of names; make it [\"...\"]")
    is_ctc = any(name.endswith(f"For{task.name}") for name in names) and not config.reset_head
    if names and not (is_ctc or new_head or config.reset_head or config.random_init):
        raise ModelError(
            f"'{init}' is {', '.join(names)}, not a {task.name} model: its output layer would be random; fine-tune it "
            "first"
        )
    takes = task.mapping[type(architecture)].main_input_name
    processor, own_tokenizer = task.processor(config, takes, is_ctc=is_ctc and not config.random_init)
    task.settle(architecture, processor.tokenizer, init, is_ctc=is_ctc and own_tokenizer)
    if config.random_init:
        with reading(f"model '{init}' cannot be built: its config.json", "correct it, or model.overrides"):
            model = _at_random(architecture, seed, task)
        return _ready(model, config), processor
    set_seed(seed)
    model, report, sparse = _weights(config, architecture, opened.weights or f"the weights of '{init}'", task)
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
            f"'{init}' has an output layer, but its config.json does not name a {task.name} model: add "
            f'"architectures": ["{type(model).__name__}"] to it, or train a new output layer with '
            "--model.reset_head true"
        )
    return _ready(model, config), processor


def override(architecture: PreTrainedConfig, config: ModelConfig) -> None:
    """Put safe CTC defaults and the user's ``model.overrides`` into an architecture.

    Overrides of a part (``encoder_config``) are a mapping, of which only the fields that are named change.

    Raises:
        ModelError: a field that the architecture does not have, named: transformers would keep it in silence.
    """
    with reading("model.overrides", "correct them"):
        _override(architecture, config.overrides, "")
    for part in (architecture, *(getattr(architecture, name) for name in architecture.sub_configs)):
        set_fields(part, _SAFE)


def _override(architecture: PreTrainedConfig, fields: dict[str, Any], prefix: str) -> None:
    unknown = [f"{prefix}{key}" for key in fields if not hasattr(architecture, key)]
    if unknown:
        raise ModelError(f"model.overrides: {', '.join(unknown)} is not a field of {type(architecture).__name__}")
    for key, value in fields.items():
        part = getattr(architecture, key)
        if isinstance(part, PreTrainedConfig) and isinstance(value, dict):
            _override(part, value, f"{prefix}{key}.")
            # made anew of its declared fields: some others follow from them when it is made (heads of keys and values)
            declared = {field.name for field in dataclasses.fields(part)}
            value = type(part)(**{name: value for name, value in part.to_dict().items() if name in declared})
        architecture.update({key: value})


def _at_random(architecture: PreTrainedConfig, seed: int, task: Task) -> PreTrainedModel:
    """A model with all weights drawn, so that it learns.

    transformers draws a Parakeet's weights from a normal distribution of scale 0.02 whatever their fan-in: the signal
    dies in the convolutions that subsample, and small models stay on the plateau of CTC (nothing but blanks) for
    thousands of steps. NeMo, where the architecture is from, trains from torch's own weights.
    """
    set_seed(seed)
    model: PreTrainedModel = task.auto.from_config(architecture)
    if isinstance(model, ParakeetPreTrainedModel):
        set_seed(seed)
        draw_all_weights(model)
    return model


def _weights(
    config: ModelConfig, architecture: PreTrainedConfig, file: Path | str, task: Task
) -> tuple[PreTrainedModel, dict[str, Any], dict[str, Tensor] | None]:
    """The model with the checkpoint's weights, the loading info, and the state dict of a compact file."""
    init, sparse = config.init, _sparse_weights(config)
    loader = task.auto if sparse is None else task.mapping[type(architecture)]
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
        if HEAD.search(f"{name}."):
            module._is_hf_initialized = False
            for parameter in module.parameters():
                parameter._is_hf_initialized = False
            model._init_weights(module)


def _ready(model: PreTrainedModel, config: ModelConfig) -> PreTrainedModel:
    if config.attention is not None:
        with reading(f"model.attention '{config.attention}'", f"it must be one that {type(model).__name__} has"):
            model.set_attn_implementation(config.attention)
    if config.freeze_feature_encoder:
        if not hasattr(model, "freeze_feature_encoder"):
            raise ModelError(f"model.freeze_feature_encoder: {type(model).__name__} has no convolutional front end")
        model.freeze_feature_encoder()
    return model
