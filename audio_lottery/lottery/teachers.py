"""The teachers of a run: which model teaches which training, loaded and checked."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from audio_lottery.config import ModelConfig, RunConfig, TrainingConfig
from audio_lottery.data.noise import make_augmenter
from audio_lottery.errors import ConfigError
from audio_lottery.lottery.run import Run
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import load_beside, presets
from audio_lottery.training.answers import expected_bytes
from audio_lottery.training.teacher import Teacher

OWN = ("dense", "theta")
"""Teachers that are models of the run itself."""


def teacher_of(
    run: Run, student: Backbone, number: int | None, training: TrainingConfig, train: Dataset
) -> Teacher | None:
    """The teacher of one training; None where the labels alone teach it.

    Args:
        run: whose training it is.
        student: who is trained.
        number: its round; None for θ.
        training: how it is trained.
        train: what it hears.

    Raises:
        ModelError: the teacher cannot be loaded.
    """
    own = None if number is None else run.method.teacher_folder(number)
    if not training.distill.teaches or (own is None and training.distill.teacher in OWN):
        return None
    return _load(run, student, training, train, own)


def check_teacher(
    run: Run, student: Backbone, training: TrainingConfig, train: Dataset, own: Path | None = None
) -> None:
    """Refuse a teacher that the model cannot learn from, before anything is trained with it.

    Args:
        run: whose training it is.
        student: the model, trained or not; its training speech is read with it.
        training: how it will be trained.
        train: what it will hear.
        own: a folder of the run that stands for its own models, dense and theta; None: those are not checked.

    Raises:
        ConfigError: see `Teacher.check` and `expected_bytes`; or θ knows nothing yet.
        ModelError: the teacher cannot be loaded.
    """
    settings = training.distill
    if not settings.teaches or (own is None and settings.teacher in OWN):
        return
    if settings.teacher == "theta" and not _knows_something(run.config):
        raise ConfigError(
            "training.distill.teacher theta: θ is drawn at random in this run (model.init, theta.train) and can teach "
            "nothing; use dense, or the folder of a trained model"
        )
    teacher = _load(run, student, training, train, own if settings.teacher in OWN else None)
    speech = run.speech(train, student, training, teacher)
    teacher.check(student, next(speech.from_position(0)))
    if settings.cache:
        expected_bytes(speech, training, run.accelerator)


def _load(run: Run, student: Backbone, training: TrainingConfig, train: Dataset, own: Path | None) -> Teacher:
    settings = training.distill
    source = ModelConfig(init=str(settings.teacher))
    if own is not None:
        source = ModelConfig(init=str(own), attention=run.config.model.attention)
    clean = None
    if settings.clean_teacher:
        quiet = replace(training.augment, noise=(), noise_prob=0.0, rirs=None, rir_prob=0.0)
        clean = make_augmenter(quiet, run.evaluator.root, run.config.seed, train) or _as_recorded
    return Teacher(load_beside(source, student), settings, str(settings.teacher), clean)


def _as_recorded(samples: np.ndarray, row: Mapping[str, Any], epoch: int) -> np.ndarray:
    return samples


def _knows_something(config: RunConfig) -> bool:
    drawn = config.model.init in presets() or config.model.random_init or config.model.reset_head
    return bool(config.theta.train) or not drawn
