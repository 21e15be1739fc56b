"""The families of recognisers, and how one is built or loaded. Above the families, so that no circle closes."""

from pathlib import Path

from transformers import MODEL_FOR_CTC_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING
from transformers.utils import SAFE_WEIGHTS_NAME

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.base import Backbone
from audio_lottery.models.checkpoint import OpenedCheckpoint, open_checkpoint
from audio_lottery.models.cnn_lstm import CnnLstm
from audio_lottery.models.conformer import Conformer
from audio_lottery.models.parakeet_transducer import ParakeetTransducer
from audio_lottery.models.transducer import Transducer
from audio_lottery.models.wav2vec2 import Wav2Vec2
from audio_lottery.models.whisper import Whisper
from audio_lottery.storage import removal_reason

FAMILIES: dict[str, type[Backbone]] = {
    family.family: family for family in (CnnLstm, Wav2Vec2, Conformer, Transducer, ParakeetTransducer, Whisper)
}
"""Name → family; the first that claims a checkpoint has it."""


def presets() -> dict[str, type[Backbone]]:
    """Preset → its family."""
    return {name: family for family in FAMILIES.values() for name in family.presets}


def load_backbone(
    config: ModelConfig, seed: int, *, new_head: bool = False, specaugment: SpecAugmentConfig | None = None
) -> Backbone:
    """Build a preset, or load a Hub id or folder, with safe defaults.

    Args:
        config: which model.
        seed: seed of every weight that is drawn at random.
        new_head: whether an output layer that the checkpoint lacks may be drawn at random, because it will be trained.
        specaugment: of the training to come; None leaves the checkpoint's own settings.

    Raises:
        ModelError: nothing there, a damaged file, an architecture of no family, weights missing from the checkpoint,
            outputs without a meaning, or an unknown override.
    """
    known = presets()
    if config.init in known:
        _check_settings(known[config.init], config)
        return known[config.init].build(config, seed, specaugment)
    removed = removal_reason(config.init, SAFE_WEIGHTS_NAME)
    if removed is not None:
        raise ModelError(f"{config.init} has no model: {removed}")
    opened = open_checkpoint(config, ", ".join(known))
    family = _family(opened, config.init)
    _check_settings(family, config)
    return family.load(opened, config, seed, new_head=new_head, specaugment=specaugment)


def load_trained(source: ModelConfig) -> Backbone:
    """Load a model to use it as it is: every weight is the checkpoint's.

    Raises:
        ModelError: see `load_backbone`; or a preset, whose weights are random.
    """
    if source.init in presets():
        raise ModelError(f"'{source.init}' is a preset with random weights; give a folder or Hub id of a trained model")
    return load_backbone(source, seed=0)


def load_beside(source: ModelConfig, student: Backbone) -> Backbone:
    """A trained model that hears what ``student`` hears, if it is of the same family.

    Raises:
        ModelError: see `load_trained`.
    """
    found = load_trained(source)
    same = student.beside(source) if type(found) is type(student) else source
    return found if same == source else load_trained(same)


def load_folder(folder: Path) -> Backbone:
    """Load a folder that `Backbone.save` wrote, weights bit for bit.

    Raises:
        ModelError: the folder is not such a model, or a weight is missing.
    """
    return load_trained(ModelConfig(init=str(folder)))


def family_of(folder: Path) -> type[Backbone]:
    """The family of the model in a folder, by its config.json alone.

    Raises:
        ModelError: it is of none.
    """
    return _family(open_checkpoint(ModelConfig(init=str(folder), random_init=True), "a folder"), str(folder))


# Fields of `ModelConfig` that mean nothing to most families.
_PARTICULAR = frozenset(name for family in FAMILIES.values() for name in family.settings)


def _check_settings(family: type[Backbone], config: ModelConfig) -> None:
    for name in sorted(_PARTICULAR - family.settings):
        value = getattr(config, name)
        if value is not None:
            raise ModelError(
                f"model.{name} is {value!r}, which {config.init} ({family.family}) has no use for; leave it out"
            )


def _family(opened: OpenedCheckpoint, init: str) -> type[Backbone]:
    for family in FAMILIES.values():
        if family.claims(opened.architecture):
            return family
    if type(opened.architecture) in MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING:
        raise ModelError(
            f"'{init}' is a sequence-to-sequence model of type {opened.architecture.model_type}; of those only whisper "
            "is known here: use a checkpoint of Whisper, CTC or a transducer"
        )
    known = ", ".join(sorted(architecture.model_type for architecture in MODEL_FOR_CTC_MAPPING))
    raise ModelError(
        f"'{init}' is a model of type {opened.architecture.model_type}, which transformers has no CTC model for; it "
        f"has them for {known}"
    )
