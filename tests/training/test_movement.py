"""Movement scores of a training: the definition, those of the kept model, and the same after an interruption."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle

import pytest
import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

from audio_lottery.training.hooks import GatherMovement
from audio_lottery.training.loop import Trainer
from tests.training.test_loop import CONFIG, make_trainer, mask_of, run_until_killed


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


def scored(corpus, folder, wers, config=CONFIG) -> tuple[Trainer, GatherMovement]:
    """A training whose dev WERs are the next of ``wers``, and what gathers its movement."""
    names = make_trainer(corpus, folder, config).hooks[0]._policy.mask
    gatherer = GatherMovement(list(names))
    trainer = make_trainer(corpus, folder, config, hooks=[gatherer])
    real = trainer.evaluate
    trainer.evaluate = lambda model: real(model) | {"wer": next(wers)}
    return trainer, gatherer


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_scores_are_those_of_the_model_that_is_kept(tiny_corpus, tmp_path, literal, accumulation_steps):
    config = replace(CONFIG, accumulation_steps=accumulation_steps)
    trainer, gatherer = scored(tiny_corpus, tmp_path, iter([0.9, 0.5, 0.7]), config)
    report = trainer.run()
    assert len(literal) == report.steps == 6
    assert report.best_step == 4
    assert list(gatherer.best) == list(mask_of(trainer))
    for name, scores in gatherer.best.items():
        parameter = trainer.backbone.module.get_parameter(name)
        torch.testing.assert_close(scores, literal[3][id(parameter)], rtol=1e-4, atol=1e-10, msg=name)
        assert not torch.allclose(scores, literal[5][id(parameter)], rtol=1e-3, atol=1e-10), name
        assert not scores[~mask_of(trainer)[name]].any(), "a pruned weight does not move"


@pytest.mark.parametrize(("die_at", "best"), [(1, 6), (3, 4), (5, 2), (5, 6)])
def test_interrupted_scores_are_the_same_bits(tiny_corpus, tmp_path, monkeypatch, die_at, best):
    wers = cycle([0.5 if step == best else 0.9 for step in (2, 4, 6)])
    whole, expected = scored(tiny_corpus, tmp_path / "whole", wers)
    assert whole.run().best_step == best
    stopped, _ = scored(tiny_corpus, tmp_path / "stopped", wers)
    run_until_killed(stopped, die_at, monkeypatch)
    resumed, found = scored(tiny_corpus, tmp_path / "stopped", wers)
    resumed.run()
    assert all(torch.equal(found.best[name], scores) for name, scores in expected.best.items())
