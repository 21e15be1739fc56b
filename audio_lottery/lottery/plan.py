"""What a search would do, before it does it: the functions of the search itself, without its folder."""

import re
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from accelerate import Accelerator
from datasets import Dataset

from audio_lottery.config import ModelConfig, RunConfig, TrainingConfig, validate
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.evaluation.evaluator import Evaluator, make_evaluator
from audio_lottery.lottery.keep import files_kept
from audio_lottery.lottery.methods import Method, check_method, make_method
from audio_lottery.lottery.run_folder import MODEL_FILE, MOVEMENT_FILE, RunFolder
from audio_lottery.lottery.teachers import OWN
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import load_backbone, load_beside
from audio_lottery.processes import make_accelerator
from audio_lottery.pruning import Mask, Scope, exact_count, find_scope
from audio_lottery.training.answers import expected_bytes
from audio_lottery.training.hook import Hook
from audio_lottery.training.loop import Trainer
from audio_lottery.training.speech import TrainingSpeech, filter_training
from audio_lottery.training.state import Stage, Training
from audio_lottery.training.teacher import Teacher

# Utterances of the trial's evaluation.
_TRIAL_UTTERANCES = 16


@dataclass(frozen=True)
class PlannedStage:
    """One training: θ or a round.

    Attributes:
        name: theta, round_00, ...
        density: share of the prunable weights that it ends with; None for θ.
        kept: weights that it ends with; None for θ.
        steps: optimiser steps; 0 where nothing is trained.
        audio_seconds: speech that it hears, repeats counted.
        evaluations: times that dev is looked at while it trains.
    """

    name: str
    density: float | None
    kept: int | None
    steps: int
    audio_seconds: float
    evaluations: int


@dataclass(frozen=True)
class Trial:
    """What a short trial took on this machine.

    Attributes:
        step_seconds: of every timed training step.
        evaluation_factor: seconds of computing for a second of audio.
        peak_bytes: largest resident memory of this process during the trial; None where the system does not tell.
    """

    step_seconds: tuple[float, ...]
    evaluation_factor: float
    peak_bytes: int | None


@dataclass(frozen=True)
class Plan:
    """What a search would do.

    Attributes:
        run_dir: its folder.
        parameters: of the model.
        prunable: group of tensors (layer numbers as ``*``) → (tensors, weights).
        left_out: reason → (tensors, parameters).
        stages: θ and the rounds.
        dropped: utterances left out of the rounds' training, by reason.
        training_bytes: weights, gradients, AdamW's moments, the best model so far, and the teacher.
        answer_bytes: what is kept of the teacher's outputs (`DistillConfig.cache`).
        disk_bytes: what the run folder will hold at the end.
        disk_peak_bytes: and at most on the way: the checkpoint of the training in progress besides.
        evaluated_seconds: audio of dev and test suites after a round.
        dev_seconds: audio of dev.
        trial: None where none was made.
    """

    run_dir: str
    parameters: int
    prunable: dict[str, tuple[int, int]]
    left_out: dict[str, tuple[int, int]]
    stages: list[PlannedStage]
    dropped: dict[str, int]
    training_bytes: int
    answer_bytes: int
    disk_bytes: int
    disk_peak_bytes: int
    evaluated_seconds: float
    dev_seconds: float
    trial: Trial | None

    def seconds(self, stage: PlannedStage, step: float) -> float:
        """Time of a stage on this machine, with ``step`` seconds a training step.

        Raises:
            ValueError: there was no trial.
        """
        if self.trial is None:
            raise ValueError("the plan was made without a trial")
        evaluated = stage.evaluations * self.dev_seconds + (0 if stage.density is None else self.evaluated_seconds)
        return stage.steps * step + self.trial.evaluation_factor * evaluated


def make_plan(config: RunConfig, trial_steps: int = 3) -> Plan:
    """Plan a search. Nothing is written into its folder.

    Args:
        config: the whole run.
        trial_steps: training steps that are timed, after one that is not; 0 makes no trial.

    Raises:
        AudioLotteryError: as `audio_lottery.lottery.search.search` would at its start.
    """
    validate(config)
    check_method(config)
    accelerator = make_accelerator(config.precision, None)
    root = Path(config.data.root).expanduser()
    train, dev, test = (load_manifest(part, root) for part in (config.data.train, config.data.dev, config.data.test))
    training = config.theta.training if config.theta.train else config.training
    backbone = load_backbone(config.model, config.seed, new_head=True, specaugment=training.specaugment)
    method = make_method(config, RunFolder(Path(config.run_dir)))
    exclude = list(backbone.heads) if config.pruning.exclude is None else config.pruning.exclude
    scope = find_scope(backbone.module, config.pruning.include, exclude)
    data = filter_training(train, backbone, config.data, config.training.augment)
    teacher = _teacher(config, backbone)
    speech = TrainingSpeech(data, backbone, config.training, config.seed, accelerator, teacher=teacher)
    answer_bytes = 0
    if teacher is not None:
        teacher.check(backbone, next(speech.from_position(0)))
        if teacher.settings.cache:
            answer_bytes = expected_bytes(speech, config.training, accelerator)
    stages = [_theta(config, backbone, accelerator, root), *_rounds(config, method, backbone, scope, speech)]
    model_bytes, teacher_bytes = _bytes(backbone), 0 if teacher is None else _bytes(teacher.backbone)
    prunable = sum(backbone.module.get_parameter(name).numel() for name in scope.names)
    disk = _disk(config, method, model_bytes, prunable)
    dev_seconds = float(sum(dev["duration"]))
    trial = None
    if trial_steps:
        trial = _try(backbone, speech, dev, config, accelerator, trial_steps)
    return Plan(
        run_dir=config.run_dir,
        parameters=sum(parameter.numel() for parameter in backbone.module.parameters()),
        prunable=_grouped(backbone, scope.names),
        left_out=_reasons(backbone, scope),
        stages=stages,
        dropped=data.dropped,
        training_bytes=5 * model_bytes + teacher_bytes,
        answer_bytes=answer_bytes,
        disk_bytes=disk,
        disk_peak_bytes=disk + 4 * model_bytes,
        evaluated_seconds=dev_seconds + float(sum(test["duration"])) * len(config.evaluation.suites),
        dev_seconds=dev_seconds,
        trial=trial,
    )


def _teacher(config: RunConfig, student: Backbone) -> Teacher | None:
    """The teacher of a round, or a model of its size where it is one of the run's own."""
    settings = config.training.distill
    if not settings.teaches:
        return None
    own = settings.teacher in OWN
    backbone = (
        load_backbone(config.model, config.seed, new_head=True)
        if own
        else load_beside(ModelConfig(init=str(settings.teacher)), student)
    )
    return Teacher(backbone, settings, str(settings.teacher))


def _bytes(backbone: Backbone) -> int:
    return sum(parameter.numel() * parameter.element_size() for parameter in backbone.module.parameters())


def _theta(config: RunConfig, backbone: Backbone, accelerator: Accelerator, root: Path) -> PlannedStage:
    if not config.theta.train:
        return PlannedStage("theta", None, None, 0, 0.0, 0)
    training = config.theta.training
    data = filter_training(load_manifest(config.theta.train, root), backbone, config.data, training.augment)
    speech = TrainingSpeech(data, backbone, training, config.seed, accelerator)
    return PlannedStage("theta", None, None, *_length(speech, training))


def _rounds(
    config: RunConfig, method: Method, backbone: Backbone, scope: Scope, speech: TrainingSpeech
) -> list[PlannedStage]:
    total = sum(backbone.module.get_parameter(name).numel() for name in scope.names)
    given = None if config.pruning.start is None else Mask.load(Path(config.pruning.start).expanduser())
    start = 1.0 if given is None else given.density()
    stages = []
    for number in range(config.search.rounds + 1):
        density = method.density(number, start)
        length = _length(speech, method.training(number, config.training))
        if number > 0:
            method.check_steps(length[0])
        stages.append(PlannedStage(method.folder.round(number).name, density, exact_count(density, total), *length))
    return stages


def _length(speech: TrainingSpeech, training: TrainingConfig) -> tuple[int, float, int]:
    """Optimiser steps, seconds of audio and evaluations of a training."""
    steps = speech.steps(training)
    epochs = steps * training.accumulation_steps / speech.micro_steps_per_epoch
    evaluations = len({*range(training.eval_every, steps + 1, training.eval_every), steps})
    return steps, epochs * speech.data.seconds, evaluations


def _grouped(backbone: Backbone, names: list[str]) -> dict[str, tuple[int, int]]:
    tensors: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for name in names:
        group = re.sub(r"\.\d+\.", ".*.", name)
        tensors[group] += 1
        weights[group] += backbone.module.get_parameter(name).numel()
    return {group: (tensors[group], weights[group]) for group in tensors}


def _reasons(backbone: Backbone, scope: Scope) -> dict[str, tuple[int, int]]:
    sizes = {name: parameter.numel() for name, parameter in backbone.module.named_parameters()}
    tensors = Counter(scope.left_out.values())
    weights: Counter[str] = Counter()
    for name, reason in scope.left_out.items():
        weights[reason] += sizes.get(name, 0)
    return {reason: (count, weights[reason]) for reason, count in tensors.most_common()}


def _disk(config: RunConfig, method: Method, model_bytes: int, prunable: int) -> int:
    """θ, the models and movement scores that ``search.keep`` leaves, and masks: one bit a weight."""
    rounds = config.search.rounds
    # whichever round turns out the best
    kept = max(
        (files_kept(config.search, rounds, best, method) for best in range(1, rounds + 1)), key=len, default=None
    )
    kept = files_kept(config.search, rounds, None, method) if kept is None else kept
    models = sum(path.name == MODEL_FILE for path in kept)
    scores = sum(path.name == MOVEMENT_FILE for path in kept) if method.score.needs == "movement" else 0
    return (1 + models) * model_bytes + scores * 4 * prunable + (rounds + 1) * (prunable // 8)


class _Stopped(Exception):
    """The trial has seen enough."""


class _Clock(Hook):
    """Times steps, and stops the training after some."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._started = 0.0
        self.seconds: list[float] = []

    def before_step(self, training: Training) -> None:
        self._started = time.perf_counter()

    def after_step(self, training: Training) -> None:
        self.seconds.append(time.perf_counter() - self._started)
        if len(self.seconds) > self._steps:
            raise _Stopped


def _try(
    backbone: Backbone, speech: TrainingSpeech, dev: Dataset, config: RunConfig, accelerator: Accelerator, steps: int
) -> Trial:
    """A few steps of a round and an evaluation; the weights of ``backbone`` are not those of before."""
    judge: Evaluator = make_evaluator(config, accelerator)
    clock = _Clock(steps)
    training = replace(config.training, max_steps=steps + 2, epochs=None, eval_every=steps + 2, save_every=steps + 2)

    def evaluate(model: Backbone) -> dict[str, Any]:
        raise _Stopped

    with TemporaryDirectory() as folder:
        stage = Stage("trial", Path(folder), config.seed, "trial")
        try:
            Trainer(backbone, speech, evaluate, training, accelerator, stage, [clock]).run()
        except _Stopped:
            accelerator.free_memory()
    rows = np.linspace(0, len(dev) - 1, min(_TRIAL_UTTERANCES, len(dev))).round().astype(int)
    sample = dev.select(rows)
    started = time.perf_counter()
    judge.hypotheses(backbone, sample, description="trial")
    factor = (time.perf_counter() - started) / float(sum(sample["duration"]))
    return Trial(tuple(clock.seconds[1:]), factor, _peak_bytes())


def _peak_bytes() -> int | None:
    try:
        import resource
    except ImportError:  # not on Windows
        return None
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
