"""Teachers of a search: which round has one, what must stay on disk for it, what a model costs; what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from audio_lottery.config import (
    AugmentConfig,
    DistillConfig,
    EvaluationConfig,
    ModelConfig,
    PruningConfig,
    SearchConfig,
    SuiteConfig,
    ThetaConfig,
    validate,
)
from audio_lottery.errors import AudioLotteryError, ConfigError
from audio_lottery.lottery.budget import rounds_behind
from audio_lottery.lottery.methods import make_method
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.lottery.search import search
from audio_lottery.lottery.select import select
from audio_lottery.models.load import load_backbone, load_beside, load_trained
from audio_lottery.pruning import Mask, find_scope, global_magnitude
from audio_lottery.storage import read_json
from audio_lottery.training import loop
from audio_lottery.training.teacher import Teacher
from tests.lottery.test_backbones import TINY
from tests.lottery.test_methods import HALVES, METHODS, Interrupted, settings, weights

DENSE = DistillConfig("dense")


def taught(root, run_dir, pruning: PruningConfig, distill: DistillConfig = DENSE, **changes):
    """Settings of a search of rounds with a teacher."""
    config = settings(root, run_dir, pruning, **changes)
    training = replace(config.training, max_steps=4, eval_every=4, save_every=2, distill=distill)
    return replace(config, training=training, evaluation=EvaluationConfig((SuiteConfig("clean"),), bootstrap=0))


@pytest.mark.parametrize(
    ("name", "steps"),
    [
        ("imp, late rewinding", [4, 5, 6]),
        ("imp, learning rate rewinding", [4, 8, 12]),
        ("gmp", [4, 8, 8]),
        ("gmp, equal budget", [4, 8, 12]),
    ],
)
def test_round_0_teaches_the_others(tiny_corpus, tmp_path, name, steps):
    pruning = METHODS[name]
    search(taught(tiny_corpus, tmp_path / "run", pruning, search=SearchConfig(rounds=2, keep="masks")))
    metrics = [read_json(tmp_path / "run" / f"round_{number:02d}" / "metrics.json") for number in range(3)]
    assert [one["training"]["teacher"] for one in metrics] == [None, "dense", "dense"]
    assert [one["budget"]["steps"] for one in metrics] == steps
    hours = [one["training"]["audio_seconds"] / 3600 for one in metrics]
    assert metrics[0]["budget"]["audio_hours"] == pytest.approx(hours[0])
    assert metrics[1]["budget"]["audio_hours"] == pytest.approx(hours[0] + hours[1])
    assert (tmp_path / "run" / "round_00" / "model.safetensors").exists(), "it teaches rounds that are still to come"


def test_without_a_teacher_a_round_costs_what_it_needs(tiny_corpus, tmp_path):
    alone, from_dense, chain = [{0}, {1}, {2}], [{0}, {0, 1}, {0, 2}], [{0}, {0, 1}, {0, 1, 2}]
    without = dict.fromkeys(("gmp", "parp", "mpi"), alone)
    without |= {"omp": from_dense, "imp": chain, "imp, lamp": chain}
    for name, behind in without.items():
        for make, expected in ((settings, behind), (taught, from_dense if behind is alone else behind)):
            method = make_method(make(tiny_corpus, tmp_path, METHODS[name]), RunFolder(tmp_path))
            assert [rounds_behind(method, number) for number in range(3)] == expected, name
    run = tmp_path / "run"
    search(settings(tiny_corpus, run, replace(METHODS["gmp"], dense_steps=3), search=SearchConfig(rounds=1)))
    assert [ticket.budget["steps"] for ticket in select([run]).tickets] == [3, 8]
    assert read_json(run / "round_00" / "metrics.json")["training"]["steps"] == 3


def test_round_0_may_be_theta_as_it_is(tiny_corpus, tmp_path):
    run = tmp_path / "run"
    search(settings(tiny_corpus, run, replace(METHODS["imp"], dense_steps=0), search=SearchConfig(rounds=1)))
    dense, pruned = (read_json(run / name / "metrics.json") for name in ("round_00", "round_01"))
    theta, found = weights(run, "theta"), weights(run, "round_00")
    assert all(torch.equal(theta[name], tensor) for name, tensor in found.items())
    assert [one["budget"]["steps"] for one in (dense, pruned)] == [0, 8]
    assert len(dense["training"]["history"]) == 1


def test_weight_0_changes_no_bit(tiny_corpus, tmp_path):
    runs = {"none": DistillConfig(), "zero": replace(DENSE, weight=0.0)}
    for name, distill in runs.items():
        search(taught(tiny_corpus, tmp_path / name, METHODS["gmp"], distill, search=SearchConfig(rounds=1)))
    found = {name: weights(tmp_path / name, "round_01") for name in runs}
    assert all(torch.equal(found["zero"][name], tensor) for name, tensor in found["none"].items())


@pytest.mark.parametrize("cache", [False, True])
def test_interrupted_and_continued_is_as_uninterrupted(tiny_corpus, tmp_path, monkeypatch, cache):
    def config(name):
        one, distill = SearchConfig(rounds=1), replace(DENSE, cache=cache)
        return taught(tiny_corpus, tmp_path / name, METHODS["gmp"], distill, model=TINY["transducer"], search=one)

    search(config("whole"))
    saves, save = {"count": 0}, loop.save_checkpoint

    def save_then_stop(*arguments):
        save(*arguments)
        saves["count"] += 1
        if saves["count"] == 3:
            raise Interrupted

    monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
    with pytest.raises(Interrupted):
        search(config("stopped"))
    search(config("stopped"))
    for stage in ("round_00", "round_01"):
        whole, stopped = (read_json(tmp_path / name / stage / "metrics.json") for name in ("whole", "stopped"))
        assert whole["budget"] == stopped["budget"]
        first, second = (tmp_path / name / stage / "model.safetensors" for name in ("whole", "stopped"))
        assert first.read_bytes() == second.read_bytes()


def test_theta_and_other_models_teach_every_round(tiny_corpus, tmp_path):
    search(settings(tiny_corpus, tmp_path / "first", METHODS["gmp"], search=SearchConfig(rounds=0)))
    source = str(tmp_path / "first" / "round_00")
    trained = ModelConfig(init=source)
    for name, teacher in {"theta": "theta", "folder": source}.items():
        distill = DistillConfig(teacher, clean_teacher=True)
        only = SearchConfig(rounds=0)
        search(taught(tiny_corpus, tmp_path / name, METHODS["gmp"], distill, model=trained, search=only))
        assert read_json(tmp_path / name / "round_00" / "metrics.json")["training"]["teacher"] == teacher
    # θ is that folder's model: the same teacher by two names
    by_name, by_path = (weights(tmp_path / name, "round_00") for name in ("theta", "folder"))
    assert all(torch.equal(tensor, by_path[name]) for name, tensor in by_name.items())


def test_a_whisper_is_taught_by_one_of_a_longer_window(tmp_path):
    load_backbone(TINY["whisper"], 1).save(tmp_path / "published")
    student = load_backbone(replace(TINY["whisper"], window=2.1), 2)
    source = ModelConfig(init=str(tmp_path / "published"))
    assert load_trained(source).positions > student.positions
    teacher = load_beside(source, student)
    audio = [np.random.default_rng(0).standard_normal(16_000).astype(np.float32)]
    layers = DistillConfig("x", hidden_weight=1.0, hidden_layers=(r"model\.encoder\.layers\.0",))
    inputs, samples = dict(student.features(audio)), torch.tensor([16_000])
    losses = Teacher(teacher, layers, "x").losses(student, inputs, samples, [torch.tensor([5, 6])])
    assert bool(torch.isfinite(losses).all())
    # of another family it is refused elsewhere, by what the two differ in
    assert type(load_beside(source, load_backbone(TINY["cnn_lstm"], 1))) is type(student)


VALUES = [
    ({"weight": -1.0}, r"training\.distill\.weight is -1\.0; it must not be negative"),
    ({"label_weight": -0.5}, r"training\.distill\.label_weight is -0\.5; it must not be negative"),
    ({"weight": 0.0, "label_weight": 0.0}, r"training\.distill: weight and label_weight are both 0"),
    ({"cache_gb": 0.0}, r"training\.distill\.cache_gb is 0; it must be positive"),
    ({"temperature": 0.0}, r"training\.distill\.temperature is 0\.0; it must be positive"),
    (
        {"hidden_layers": ("encoder.(",)},
        r"hidden_layers: 'encoder\.\(' is no regular expression \(missing \), unterminated",
    ),
    ({"hidden_weight": 1.0}, r"training\.distill\.hidden_weight is set but training\.distill\.hidden_layers names no"),
]


@pytest.mark.parametrize(("values", "message"), VALUES)
def test_impossible_values_are_one_line(tiny_corpus, tmp_path, values, message):
    with pytest.raises(ConfigError, match=message):
        validate(taught(tiny_corpus, tmp_path, METHODS["imp"], replace(DENSE, **values)))


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (
            {"speeds": (0.9, 1.0)},
            r"distill\.cache: the teacher would hear another speed .* \(.*augment\.speeds\)",
        ),
        (
            {"noise": ("pink",), "noise_prob": 0.5},
            r"another noise .* \(.*augment\.noise_prob\); set clean_teacher",
        ),
        ({"rirs": "generated", "rir_prob": 0.5}, r"another room .* \(training\.augment\.rir_prob\); set clean_teacher"),
    ],
)
def test_a_cache_needs_a_teacher_that_hears_the_same_again(tiny_corpus, tmp_path, augment, message):
    def check(**changes):
        config = taught(tiny_corpus, tmp_path, METHODS["imp"], replace(DENSE, cache=True, **changes))
        validate(replace(config, training=replace(config.training, augment=AugmentConfig(**augment))))

    with pytest.raises(ConfigError, match=message):
        check()
    check(teacher=None)
    if "speeds" in augment:
        augment["speeds"] = (0.9,)
        check()
    else:
        check(clean_teacher=True)


def test_teachers_that_come_too_late_or_know_nothing(tiny_corpus, tmp_path):
    base = taught(tiny_corpus, tmp_path / "run", METHODS["imp"])
    own = replace(base, theta=ThetaConfig(base.data.train, base.data.dev, base.training))
    with pytest.raises(ConfigError, match=r"theta\.training\.distill\.teacher comes before θ and round 0"):
        validate(own)
    eight = tmp_path / "eight_kilohertz"
    load_backbone(base.model, 1).save(eight)
    for file in eight.glob("*.json"):
        file.write_text(file.read_text().replace('"sampling_rate": 16000', '"sampling_rate": 8000'))
    cases = [
        ({"teacher": str(eight)}, "eight_kilohertz' takes audio at 8000 Hz"),
        ({"teacher": "theta"}, "teacher theta: θ is drawn at random in this run"),
        ({"teacher": "conformer-mini"}, "'conformer-mini' is a preset with random weights"),
        ({"teacher": str(tmp_path / "gone")}, "gone"),
        ({"hidden_weight": 1.0, "hidden_layers": ("nothing",)}, "'nothing' is the name of no module of Wav2Vec2"),
        ({"cache": True, "cache_gb": 1e-6}, "what the teacher says of .* would take about .* GB of memory"),
    ]
    for number, (values, message) in enumerate(cases):
        with pytest.raises(AudioLotteryError, match=message):
            search(taught(tiny_corpus, tmp_path / str(number), METHODS["imp"], replace(DENSE, **values)))
        assert not (tmp_path / str(number) / "round_00").exists(), "refused before anything is trained"


def test_dense_needs_a_dense_round(tiny_corpus, tmp_path):
    backbone = load_backbone(settings(tiny_corpus, tmp_path, PruningConfig()).model, 5)
    given, scope = str(tmp_path / "half.safetensors"), find_scope(backbone.module, exclude=list(backbone.heads))
    global_magnitude(backbone.module, 0.5, among=Mask.dense(backbone.module, scope.names)).save(Path(given))
    none = DistillConfig()
    search(taught(tiny_corpus, tmp_path / "sparse", PruningConfig(start=given), none, search=SearchConfig(rounds=0)))
    for pruning in (PruningConfig(start=given), PruningConfig(ticket=str(tmp_path / "sparse"))):
        with pytest.raises(ConfigError, match=r"teacher dense: round 0 starts from the mask of .* and is not dense"):
            search(taught(tiny_corpus, tmp_path / "other", pruning))
    with pytest.raises(ConfigError, match=r"pruning\.dense_steps: with pruning\.control dense"):
        search(settings(tiny_corpus, tmp_path / "other", PruningConfig(control="dense", dense_steps=3)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"every": 6}, r"every 6 steps \(pruning\.every\) in steps 0 to 4 of 8 .*; raise training\.max_steps to 12 or"),
        ({"every": 2, "end": 1.0}, r"in steps 0 to 8 of 8 .*; lower pruning\.end, so that the weights recover"),
        ({"every": 1, "begin": 0.5, "end": 0.51}, r"in no step of 8 .*; raise training\.max_steps to 100 or more"),
    ],
)
def test_a_budget_shorter_than_the_schedule_is_refused(tiny_corpus, tmp_path, changes, message):
    with pytest.raises(ConfigError, match=message):
        search(settings(tiny_corpus, tmp_path, PruningConfig(**{"method": "gmp", "targets": HALVES} | changes)))
    assert not (tmp_path / "round_00").exists()
