"""Where the time of a training step goes: phases by the clock, operators by torch's profiler.

Real batches of a config's training set, features and augmentation included, through the package's own training loop
and mask. The phases add up to the step; the operators are from further steps of the same training, since a profiler
slows what it looks at.

    python scripts/profile_step.py --steps 12 --config conformer_an4 --data.root /corpora   # any setting of a run
"""

import argparse
import platform
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from audio_lottery.cli import run
from audio_lottery.config import RunConfig
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.data.noise import make_augmenter
from audio_lottery.models.load import load_backbone
from audio_lottery.processes import make_accelerator
from audio_lottery.pruning import Mask, find_scope, global_magnitude
from audio_lottery.settings import parse_config
from audio_lottery.training.hook import Hook
from audio_lottery.training.hooks import KeepMask
from audio_lottery.training.loop import Trainer
from audio_lottery.training.policies import Fixed
from audio_lottery.training.speech import TrainingSpeech, filter_training
from audio_lottery.training.state import Stage, Training

WARM_UP = 2
"""Steps before the first that is timed: memory is fetched and shapes are planned in them."""
OPERATORS = 12
DENSITY = 0.5

BATCH, LOSS, BACKWARD = "audio, features, SpecAugment", "forward pass and loss", "backward pass"
OPTIMISER, REST = "clipping and optimiser", "mask and the rest"
PHASES = (BATCH, LOSS, BACKWARD, OPTIMISER, REST)


class Stopwatch(Hook):
    """Seconds of every phase, and the profiler of the steps behind those that are timed.

    Args:
        steps: that are timed; as many are profiled.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.profiler = profile(activities=[ProfilerActivity.CPU])
        self._timed = False
        self._started = 0.0

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function`` with its seconds added to those of ``phase``."""

        def call(*arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*arguments, **options)
            finally:
                if self._timed:
                    self.seconds[phase] += time.perf_counter() - started

        return call

    def start(self, training: Training) -> None:
        """Time the optimiser."""
        setattr(training.optimizer, "step", self.timed(OPTIMISER, training.optimizer.step))  # noqa: B010

    def before_step(self, training: Training) -> None:
        """Start the clock, or the profiler."""
        step = training.progress.step
        self._timed = WARM_UP <= step < WARM_UP + self.steps
        if step == WARM_UP + self.steps:
            self.profiler.start()
        self._started = time.perf_counter()

    def after_step(self, training: Training) -> None:
        """Stop them."""
        if self._timed:
            self.seconds["step"] += time.perf_counter() - self._started
        if training.progress.step == WARM_UP + 2 * self.steps:
            self.profiler.stop()


def measure(config: RunConfig, steps: int) -> Stopwatch:
    """Train for some steps under a mask of half the weights."""
    accelerator = make_accelerator(config.precision, None)
    root = Path(config.data.root).expanduser()
    backbone = load_backbone(config.model, config.seed, new_head=True, specaugment=config.training.specaugment)
    data = filter_training(load_manifest(config.data.train, root), backbone, config.data, config.training.augment)
    augment = make_augmenter(config.training.augment, root, config.seed, data.manifest)
    speech = TrainingSpeech(data, backbone, config.training, config.seed, accelerator, augment=augment)
    watch = Stopwatch(steps)
    batches = speech.from_position

    def from_position(*place: Any) -> Iterator[Any]:
        following = watch.timed(BATCH, batches(*place).__next__)
        while True:
            yield following()

    for place, name, phase in (
        (backbone, "loss", LOSS),
        (accelerator, "backward", BACKWARD),
        (accelerator, "clip_grad_norm_", OPTIMISER),
    ):
        setattr(place, name, watch.timed(phase, getattr(place, name)))
    setattr(speech, "from_position", from_position)  # noqa: B010 - a method of the class
    scope = find_scope(backbone.module, config.pruning.include, list(backbone.heads))
    mask = global_magnitude(backbone.module, DENSITY, Mask.dense(backbone.module, list(scope.names)))
    keep = KeepMask(Fixed(mask))
    total = WARM_UP + 2 * steps
    training = replace(config.training, max_steps=total, epochs=None, eval_every=total, save_every=total)
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage("profile", Path(folder), config.seed, "profile")
        trainer = Trainer(
            backbone, speech, lambda _: {"wer": 0.0, "cer": 0.0}, training, accelerator, stage, [keep, watch]
        )
        trainer.run()
    return watch


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=10, help="timed, and as many profiled (default: 10)")
    own, others = parser.parse_known_args()
    config = parse_config(others, parser.prog)
    watch = measure(config, own.steps)
    total = watch.seconds.pop("step")
    watch.seconds[REST] = total - sum(watch.seconds.values())
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {config.precision}")
    print(f"\n| phase | ms a step | share |\n|---|---:|---:|\n| all | {1e3 * total / own.steps:.0f} | |")
    for phase in PHASES:
        seconds = watch.seconds[phase]
        print(f"| {phase} | {1e3 * seconds / own.steps:.0f} | {100 * seconds / total:.0f} % |")
    operators = sorted(watch.profiler.key_averages(), key=lambda entry: -entry.self_cpu_time_total)
    everything = sum(entry.self_cpu_time_total for entry in operators)
    print("\n| operator | calls a step | share of the time in operators |\n|---|---:|---:|")
    for entry in operators[:OPERATORS]:
        share = 100 * entry.self_cpu_time_total / everything
        print(f"| {entry.key} | {entry.count / own.steps:.0f} | {share:.0f} % |")


if __name__ == "__main__":
    sys.exit(run(main))
