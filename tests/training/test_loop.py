"""The loop: accumulation adds up exactly, resume equals uninterrupted, bad steps are skipped and counted."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.state import AcceleratorState

from audio_lottery import pruning
from audio_lottery.config import (
    CorpusConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    SpecAugmentConfig,
    TrainingConfig,
)
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.data.filters import prepare_training
from audio_lottery.errors import ModelError, RunError, StorageError
from audio_lottery.evaluation.evaluator import Evaluator
from audio_lottery.models import ctc
from audio_lottery.models.load import load_backbone
from audio_lottery.processes import make_accelerator
from audio_lottery.pruning import Mask, find_scope, global_magnitude
from audio_lottery.training import checkpoint
from audio_lottery.training.hook import Hook
from audio_lottery.training.hooks import KeepMask
from audio_lottery.training.loop import Trainer
from audio_lottery.training.policies import Fixed
from audio_lottery.training.speech import TrainingSpeech
from audio_lottery.training.state import Stage, Training
from tests.conftest import TINY_MODEL

CONFIG = TrainingConfig(
    max_steps=6,
    max_batch_seconds=6,
    learning_rate=2e-3,
    eval_every=2,
    save_every=2,
    specaugment=SpecAugmentConfig(time_prob=0.1, time_length=4),
)
DROPOUT = {"hidden_dropout": 0.1, "attention_dropout": 0.1}


def make_trainer(
    root: Path,
    folder: Path,
    config: TrainingConfig = CONFIG,
    mask: bool = True,
    hooks: Sequence[Hook] = (),
    **overrides,
) -> Trainer:
    """A training of a tiny model; ``folder/checkpoint`` is continued."""
    accelerator = make_accelerator(overrides.pop("precision", "no"), None)
    backbone = load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL | DROPOUT | overrides), 1)
    manifest = load_manifest([CorpusConfig("jsonl", "train")], root)
    data = prepare_training(manifest, backbone.vocabulary, backbone.can_align, DataConfig())
    dev = load_manifest([CorpusConfig("jsonl", "dev")], root)
    if mask:
        names = find_scope(backbone.module).names
        ticket = global_magnitude(backbone.module, 0.3, among=Mask.dense(backbone.module, names))
        pruning.apply(ticket, backbone.module)
        hooks = [KeepMask(Fixed(ticket)), *hooks]
    judge = Evaluator(accelerator, EvaluationConfig(), "basic", root)
    return Trainer(
        backbone,
        TrainingSpeech(data, backbone, config, 11, accelerator),
        lambda model: judge.score(model, dev, config.max_batch_seconds),
        config,
        accelerator,
        Stage("theta", folder, 11, "train"),
        hooks,
    )


def mask_of(trainer: Trainer) -> Mask:
    """The mask of the model that was kept."""
    return next(hook for hook in trainer.hooks if isinstance(hook, KeepMask)).best


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in trainer.backbone.module.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


class Killed(Exception):
    """Stands for the process dying."""


def run_until_killed(trainer: Trainer, die_at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run ``trainer`` until ``die_at`` steps are done, and no further."""
    step = Trainer._step

    def dying(self, training, module, optimizer, batches):
        if training.progress.step == die_at:
            raise Killed
        return step(self, training, module, optimizer, batches)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_step", dying)
        with pytest.raises(Killed):
            trainer.run()


@pytest.mark.parametrize("die_at", [1, 3, 4, 5])
def test_resume_equals_uninterrupted_bit_for_bit(tiny_corpus, tmp_path, monkeypatch, die_at):
    whole = make_trainer(tiny_corpus, tmp_path / "whole")
    expected = whole.run()

    stopped = make_trainer(tiny_corpus, tmp_path / "stopped")
    run_until_killed(stopped, die_at, monkeypatch)
    resumed = make_trainer(tiny_corpus, tmp_path / "stopped")
    report = resumed.run()
    assert same(weights(resumed), weights(whole))
    assert replace(report, seconds=0) == replace(expected, seconds=0)


class Watch(Hook):
    """The weights at every evaluation."""

    def __init__(self) -> None:
        self.seen: list[dict[str, torch.Tensor]] = []

    def after_evaluation(self, training: Training, best: bool) -> None:
        self.seen.append(checkpoint.snapshot(training.backbone.module))


@pytest.mark.parametrize(
    ("best_by", "rates", "chosen", "warns"),
    [
        # Learning to spell: more words appear, and WER passes 100 %.
        ("wer", [(1.01, 0.57), (1.08, 0.51), (1.05, 0.45)], 0, True),
        ("cer", [(1.01, 0.57), (1.08, 0.51), (1.05, 0.45)], 2, False),
        ("wer", [(0.50, 0.20), (0.40, 0.21), (0.40, 0.20)], 2, False),
        ("cer", [(0.50, 0.20), (0.40, 0.20), (0.45, 0.20)], 1, False),
        ("wer", [(0.99, 0.57), (1.08, 0.51), (1.05, 0.45)], 0, False),
    ],
)
def test_dev_chooses_by_the_rate_that_it_is_told_and_the_other_decides_between_equals(
    tiny_corpus, tmp_path, caplog, best_by, rates, chosen, warns
):
    watch, results = Watch(), iter(rates)
    trainer = make_trainer(tiny_corpus, tmp_path, replace(CONFIG, best_by=best_by), mask=False, hooks=[watch])
    trainer.evaluate = lambda backbone: dict(zip(("wer", "cer"), next(results), strict=True))
    report = trainer.run()
    assert report.best_step == 2 * (chosen + 1)
    assert (report.dev["wer"], report.dev["cer"]) == rates[chosen]
    assert same(weights(trainer), watch.seen[chosen])
    assert any("no better than writing nothing" in record.message for record in caplog.records) == warns


def test_pruned_weights_are_zero_at_the_end_and_survivors_moved(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path)
    before = weights(trainer)
    trainer.run()
    pruning.check(mask_of(trainer), trainer.backbone.module)
    after = weights(trainer)
    for name, kept in mask_of(trainer).items():
        assert not after[name][~kept].any()
    assert not same(before, after)


def test_accumulation_gives_the_gradients_of_one_large_batch(tiny_corpus, tmp_path, monkeypatch):
    gradients = []
    monkeypatch.setattr(
        "accelerate.Accelerator.clip_grad_norm_",
        lambda self, parameters, norm: (
            gradients.append([p.grad.clone() for p in parameters if p.grad is not None]) or 1.0
        ),
    )
    dry = dict.fromkeys(("hidden_dropout", "attention_dropout", "activation_dropout"), 0.0)
    plain = replace(CONFIG, max_steps=1, specaugment=SpecAugmentConfig(time_prob=0))
    one = make_trainer(tiny_corpus, tmp_path / "one", replace(plain, max_batch_seconds=60), mask=False, **dry)
    assert one.speech.micro_steps_per_epoch == 1
    one.run()
    split = make_trainer(tiny_corpus, tmp_path / "split", replace(plain, max_batch_seconds=5), mask=False, **dry)
    split.config = replace(split.config, accumulation_steps=split.speech.micro_steps_per_epoch)
    assert split.speech.micro_steps_per_epoch > 3
    split.run()
    for a, b in zip(gradients[0], gradients[1], strict=True):
        assert torch.allclose(a, b, rtol=1e-3, atol=1e-6)


def test_steps_that_are_not_finite_are_skipped_and_counted(tiny_corpus, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_corpus, tmp_path)
    real, calls = ctc.ctc_loss, []

    def sometimes_nan(*arguments):
        calls.append(1)
        return real(*arguments) * (float("nan") if len(calls) in (2, 3) else 1.0)

    monkeypatch.setattr(ctc, "ctc_loss", sometimes_nan)
    report = trainer.run()
    assert report.nonfinite_steps == 2
    assert all(torch.isfinite(value).all() for value in weights(trainer).values())


def test_a_training_that_stays_not_finite_is_given_up(tiny_corpus, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_corpus, tmp_path, replace(CONFIG, max_nonfinite_steps=3))
    real = ctc.ctc_loss
    monkeypatch.setattr(ctc, "ctc_loss", lambda *arguments: real(*arguments) * float("inf"))
    with pytest.raises(ModelError, match=r"not finite in 3 steps in a row"):
        trainer.run()


def test_a_checkpoint_cut_short_is_refused_and_kept(tiny_corpus, tmp_path):
    make_trainer(tiny_corpus, tmp_path).run()
    damaged = tmp_path / "checkpoint" / "optimizer.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-10])
    with pytest.raises(RunError, match=r"optimizer\.safetensors has \d+ bytes where \d+ were written; remove"):
        make_trainer(tiny_corpus, tmp_path).run()
    assert damaged.exists()


def test_a_checkpoint_with_a_flipped_bit_is_refused(tiny_corpus, tmp_path):
    make_trainer(tiny_corpus, tmp_path).run()
    damaged = tmp_path / "checkpoint" / "model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(RunError, match="does not hold the bytes that were written"):
        make_trainer(tiny_corpus, tmp_path).run()


def test_a_full_disk_leaves_the_old_checkpoint_whole(tiny_corpus, tmp_path, monkeypatch):
    trainer = make_trainer(tiny_corpus, tmp_path)
    calls = []
    save_model = checkpoint.save_model

    def save_until_full(model, path):
        calls.append(path)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        save_model(model, path)

    monkeypatch.setattr(checkpoint, "save_model", save_until_full)
    with pytest.raises(StorageError, match="no space left for it"):
        trainer.run()
    monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint"], "nothing half-written is left"
    resumed = make_trainer(tiny_corpus, tmp_path)
    resumed.run()
    whole = make_trainer(tiny_corpus, tmp_path / "whole")
    whole.run()
    assert same(weights(resumed), weights(whole))


@pytest.fixture
def fresh_accelerate():
    """accelerate keeps the precision for the life of a process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.usefixtures("fresh_accelerate")
@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_and_resumes_exactly(tiny_corpus, tmp_path, monkeypatch, precision):
    whole = make_trainer(tiny_corpus, tmp_path / "whole", precision=precision)
    report = whole.run()
    stopped = make_trainer(tiny_corpus, tmp_path / "stopped", precision=precision)
    run_until_killed(stopped, 4, monkeypatch)
    resumed = make_trainer(tiny_corpus, tmp_path / "stopped", precision=precision)
    assert replace(resumed.run(), seconds=0) == replace(report, seconds=0)
    assert same(weights(resumed), weights(whole))
    assert all(value.dtype == torch.float32 for value in weights(whole).values())


class Counter(Hook):
    """A hook from outside: counts steps, and goes on counting after a kill."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.steps = 0

    def load(self, training: Training, folder: Path) -> None:
        self.calls.append("load")
        self.steps = int((folder / "counter.json").read_text())

    def save(self, training: Training, folder: Path) -> None:
        self.calls.append("save")
        (folder / "counter.json").write_text(str(self.steps))

    def after_step(self, training: Training) -> None:
        self.calls.append("after_step")
        self.steps += 1

    def may_keep(self, training: Training) -> bool:
        self.calls.append("may_keep")
        return training.progress.step != 4

    def __getattribute__(self, name: str):
        if name in ("start", "begin", "before_step", "after_backward", "before_evaluation", "finish"):
            self.calls.append(name)
        return super().__getattribute__(name)


def test_hooks_are_called_in_their_places_and_keep_their_state(tiny_corpus, tmp_path, monkeypatch):
    counter = Counter()
    report = make_trainer(tiny_corpus, tmp_path / "whole", hooks=[counter]).run()
    step = ["before_step", "after_backward", "after_step"]
    evaluation = ["before_evaluation", "may_keep", "save"]
    assert counter.calls == ["start", "begin", *(step * 2 + evaluation) * 3, "finish"]
    assert report.best_step != 4

    stopped, resumed = Counter(), Counter()
    run_until_killed(make_trainer(tiny_corpus, tmp_path / "stopped", hooks=[stopped]), 5, monkeypatch)
    make_trainer(tiny_corpus, tmp_path / "stopped", hooks=[resumed]).run()
    assert (stopped.steps, resumed.steps) == (5, 6)
    assert resumed.calls[:2] == ["start", "load"]
