"""A teacher that is heard once: what it says is what it would say in every step, and a training stays exact."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from audio_lottery.config import AugmentConfig, CorpusConfig, DataConfig, DistillConfig, TrainingConfig
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.errors import ConfigError, ModelError
from audio_lottery.models.load import load_backbone
from audio_lottery.processes import make_accelerator
from audio_lottery.training.answers import ask, expected_bytes
from audio_lottery.training.hook import Hook
from audio_lottery.training.speech import TrainingSpeech, filter_training
from audio_lottery.training.state import Training
from audio_lottery.training.teacher import Teacher
from tests.training.test_distill import FAMILIES, LAYERS, taught
from tests.training.test_loop import (
    CONFIG,
    fresh_accelerate,  # noqa: F401
    make_trainer,
    run_until_killed,
    same,
    weights,
)

CACHED = DistillConfig("another", cache=True)
LAYER = {"hidden_weight": 0.5, "hidden_layers": (LAYERS["wav2vec2"],)}


def make_speech(root: Path, family: str, accelerator: Any = None, **settings) -> tuple[TrainingSpeech, TrainingConfig]:
    """Training speech of a tiny student, an epoch and more of it, with another draw of it for a teacher."""
    distill = replace(CACHED, hidden_layers=(LAYERS[family],), **settings)
    config = replace(CONFIG, distill=distill, max_steps=30)
    student, other = (load_backbone(FAMILIES[family], seed) for seed in (1, 2))
    manifest = load_manifest([CorpusConfig("jsonl", "train")], root)
    data = filter_training(manifest, student, DataConfig(), AugmentConfig())
    teacher = Teacher(other, distill, "another")
    accelerator = accelerator or make_accelerator("no", None)
    return TrainingSpeech(data, student, config, 11, accelerator, teacher=teacher), config


class Watch(Hook):
    """Loss and gradient norm of every step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def after_step(self, training: Training) -> None:
        self.seen.append((training.loss, training.gradient_norm))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("weight", [0.0, 1.0])
def test_the_losses_are_those_of_a_teacher_in_every_step(tiny_corpus, family, weight):
    speech, config = make_speech(tiny_corpus, family, weight=weight, hidden_weight=0.5)
    teacher, student = speech.teacher, load_backbone(FAMILIES[family], 1)
    student.module.eval()
    answers = ask(speech, config, make_accelerator("no", None), "test")
    both = zip(speech.from_position(0), speech.from_position(0, answered=True), range(8), strict=False)
    for with_teacher, batch, _ in both:
        assert "heard" not in batch
        assert batch["ids"] == with_teacher["ids"]
        rest = batch["inputs"], batch["samples"], batch["labels"]
        expected = teacher.losses(student, *rest, with_teacher.get("heard"))
        found = teacher.losses(student, *rest, answer=answers.of(batch["ids"], torch.device("cpu")))
        assert torch.allclose(found, expected, rtol=1e-4), "whatever batch an utterance was heard in"


def test_no_generator_moves(tiny_corpus):
    speech, config = make_speech(tiny_corpus, "wav2vec2")
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    ask(speech, config, make_accelerator("no", None), "test")
    assert before[0] == random.getstate()
    assert np.array_equal(before[1], np.random.get_state()[1])
    assert torch.equal(before[2], torch.get_rng_state())


def test_a_cached_training_is_nearly_the_same_and_of_no_weight_the_same(tiny_corpus, tmp_path):
    seen = {}
    for cache in (False, True):
        trainer, watch = taught(tiny_corpus, tmp_path / str(cache), replace(CACHED, cache=cache)), Watch()
        trainer.hooks = (*trainer.hooks, watch)
        trainer.run()
        seen[cache] = watch.seen
    assert seen[True][0] == pytest.approx(seen[False][0], rel=1e-5), "rounding alone, where the weights are the same"
    assert seen[True][-1] == pytest.approx(seen[False][-1], rel=1e-2)
    plain = make_trainer(tiny_corpus, tmp_path / "plain")
    of_no_weight = taught(tiny_corpus, tmp_path / "none", replace(CACHED, weight=0.0))
    plain.run(), of_no_weight.run()
    assert same(weights(plain), weights(of_no_weight))


@pytest.mark.parametrize("die_at", [1, 3])
def test_a_cached_training_resumes_bit_for_bit(tiny_corpus, tmp_path, monkeypatch, die_at):
    distill = replace(CACHED, clean_teacher=True, **LAYER)
    noisy = AugmentConfig(noise=("white",), noise_prob=1.0)
    whole = taught(tiny_corpus, tmp_path / "whole", distill, noisy)
    expected = whole.run()
    run_until_killed(taught(tiny_corpus, tmp_path / "stopped", distill, noisy), die_at, monkeypatch)
    resumed = taught(tiny_corpus, tmp_path / "stopped", distill, noisy)
    assert replace(resumed.run(), seconds=0) == replace(expected, seconds=0)
    assert same(weights(resumed), weights(whole))


@pytest.mark.usefixtures("fresh_accelerate")
def test_answers_have_the_precision_of_the_training(tiny_corpus):
    accelerator = make_accelerator("bf16", None)
    speech, config = make_speech(tiny_corpus, "wav2vec2", accelerator)
    identity = next(speech.from_position(0))["ids"][0]
    answer = ask(speech, config, accelerator, "test").of([identity], torch.device("cpu"))
    assert answer.predictions.logits.dtype == torch.bfloat16


def test_a_short_training_asks_for_what_it_meets(tiny_corpus):
    speech, config = make_speech(tiny_corpus, "wav2vec2")
    assert speech.met(config).tolist() == list(range(24))
    short = replace(config, max_steps=1, accumulation_steps=2)
    batches = speech.from_position(0)
    ids = {identity for _ in range(2) for identity in next(batches)["ids"]}
    assert {speech.data.manifest[int(row)]["id"] for row in speech.met(short)} == ids
    assert len(ids) < 24
    with pytest.raises(KeyError):
        ask(speech, short, make_accelerator("no", None), "test").of(next(batches)["ids"], torch.device("cpu"))


def test_too_large_answers_are_refused_with_their_size(tiny_corpus):
    speech, config = make_speech(tiny_corpus, "transducer")
    accelerator = make_accelerator("no", None)
    expected = expected_bytes(speech, config, accelerator)
    answers = ask(speech, config, accelerator, "test")
    told = [answers.of([row["id"]], torch.device("cpu")).predictions for row in speech.data.manifest]
    assert expected == pytest.approx(sum(one.logits.nbytes + one.path.nbytes for one in told), rel=0.2)
    small = replace(config, distill=replace(config.distill, cache_gb=expected / 2e9))
    with pytest.raises(
        ConfigError, match=r"training\.distill\.cache: what the teacher says of 24 .* about .* GB .*allows"
    ):
        ask(speech, small, accelerator, "test")


def test_points_that_depend_on_padding_are_refused(tiny_corpus):
    speech, config = make_speech(tiny_corpus, "wav2vec2")
    batch = next(speech.from_position(0, answered=True))
    answers = ask(speech, config, make_accelerator("no", None), "test")
    longer = answers.of(batch["ids"], torch.device("cpu"))
    longer = replace(longer, predictions=replace(longer.predictions, points=longer.predictions.points + 1))
    with pytest.raises(ModelError, match=r"distill\.cache: the teacher has \[.*\] points .* the model \[.*; leave"):
        speech.teacher.losses(
            load_backbone(FAMILIES["wav2vec2"], 1), batch["inputs"], batch["samples"], batch["labels"], answer=longer
        )
