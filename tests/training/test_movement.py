"""Movement scores of a training: the definition, those of the kept model, and the same after an interruption."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle
from types import SimpleNamespace

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from audio_lottery.training import loop
from tests.training.test_loop import CONFIG, make_trainer, run_until_killed


@pytest.fixture
def literal() -> Iterator[list[dict[int, torch.Tensor]]]:
    """-Σ lr · w · ∂L/∂w after every step of any optimiser: id of the parameter → scores."""
    totals: list[dict[int, torch.Tensor]] = []

    def add(optimizer, *_):
        last = totals[-1] if totals else {}
        totals.append(
            {
                id(parameter): last.get(id(parameter), 0.0) - group["lr"] * parameter.detach() * parameter.grad
                for group in optimizer.param_groups
                for parameter in group["params"]
                if parameter.grad is not None
            }
        )

    handle = register_optimizer_step_pre_hook(add)
    yield totals
    handle.remove()


def pretend(monkeypatch: pytest.MonkeyPatch, wers: list[float]) -> None:
    """Dev WERs of the evaluations after steps 2, 4 and 6, again and again."""
    real, found = loop.score, cycle(wers)
    monkeypatch.setattr(
        loop, "score", lambda *a: SimpleNamespace(to_dict=lambda: real(*a).to_dict() | {"wer": next(found)})
    )


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_scores_are_those_of_the_model_that_is_kept(tiny_corpus, tmp_path, monkeypatch, literal, accumulation_steps):
    pretend(monkeypatch, [0.9, 0.5, 0.7])
    trainer = make_trainer(tiny_corpus, tmp_path, replace(CONFIG, accumulation_steps=accumulation_steps))
    trainer.scored = list(trainer.keeper._policy.mask)
    report = trainer.run()
    assert len(literal) == report.steps == 6
    assert report.best_step == 4
    assert list(trainer.movement) == trainer.scored
    for name, scores in trainer.movement.items():
        parameter = trainer.recogniser.model.get_parameter(name)
        torch.testing.assert_close(scores, literal[3][id(parameter)], rtol=1e-4, atol=1e-10, msg=name)
        assert not torch.allclose(scores, literal[5][id(parameter)], rtol=1e-3, atol=1e-10), name
        assert not scores[~trainer.mask[name]].any(), "a pruned weight does not move"


def test_without_names_nothing_is_gathered(tiny_corpus, tmp_path):
    trainer = make_trainer(tiny_corpus, tmp_path)
    trainer.run()
    assert trainer.movement is None
    assert not list((tmp_path / "checkpoint").glob("movement*"))


@pytest.mark.parametrize(("die_at", "best"), [(1, 6), (3, 4), (5, 2), (5, 6)])
def test_interrupted_scores_are_the_same_bits(tiny_corpus, tmp_path, monkeypatch, die_at, best):
    pretend(monkeypatch, [0.5 if step == best else 0.9 for step in (2, 4, 6)])
    whole = make_trainer(tiny_corpus, tmp_path / "whole")
    whole.scored = list(whole.keeper._policy.mask)
    assert whole.run().best_step == best
    stopped = make_trainer(tiny_corpus, tmp_path / "stopped")
    stopped.scored = list(stopped.keeper._policy.mask)
    run_until_killed(stopped, die_at, monkeypatch)
    resumed = make_trainer(tiny_corpus, tmp_path / "stopped")
    resumed.scored = list(resumed.keeper._policy.mask)
    resumed.run()
    assert all(torch.equal(resumed.movement[name], scores) for name, scores in whole.movement.items())
