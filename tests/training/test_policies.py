"""Masks that change while a training runs: when, how far, and what may be kept."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from audio_lottery import pruning
from audio_lottery.processes import make_accelerator
from audio_lottery.pruning import Mask, exact_count, global_magnitude
from audio_lottery.training.hooks import KeepMask
from audio_lottery.training.policies import Gradual, MaskPolicy, Repruned


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(40, 25, bias=False), nn.Linear(25, 20, bias=False))


class Keeper:
    """The hook that keeps a mask, with a training that only counts steps."""

    def __init__(self, policy: MaskPolicy, model: nn.Module, total: int) -> None:
        self.hook = KeepMask(policy)
        self.training = SimpleNamespace(
            backbone=SimpleNamespace(module=model),
            optimizer=torch.optim.AdamW(model.parameters()),
            accelerator=make_accelerator("no", None),
            progress=SimpleNamespace(step=0),
            total_steps=total,
        )
        self.hook.begin(self.training)

    @property
    def mask(self) -> Mask:
        return self.hook.mask

    def at(self, place: str, step: int = 0) -> None:
        self.training.progress.step = step
        getattr(self.hook, place)(self.training)


def dense(model: nn.Module) -> Mask:
    return Mask.dense(model, ["0.weight", "1.weight"])


def prune(model: nn.Module, density: float, among: Mask | None) -> Mask:
    return global_magnitude(model, density, among=among or dense(model))


def test_cubic_schedule_is_the_formula(model):
    """Zhu & Gupta 2017: steps 20 to 60 of 100, every 10, from dense to 10 %."""
    policy = Gradual(dense(model), 0.1, prune, begin=0.2, end=0.6, every=10)
    mask, found = dense(model), {}
    for step in range(100):
        new = policy.replacement(step, 100, model, mask)
        if new is not None:
            assert new.is_subset_of(mask)
            found[step], mask = new.kept, new
    # s_t = 0.9 + (0 - 0.9) (1 - (t - 20) / 40)^3; at step 20 nothing is due, for the sparsity there is still 0
    sparsities = {30: 0.5203125, 40: 0.7875, 50: 0.8859375, 60: 0.9}
    assert found == {step: exact_count(1 - sparsity, 1500) for step, sparsity in sparsities.items()}
    assert [policy.may_keep(step, 100) for step in (59, 60, 61, 100)] == [False, False, True, True]


def test_a_short_training_still_reaches_the_density(model):
    policy = Gradual(dense(model), 0.2, prune, begin=0.0, end=1.0, every=7)
    mask = dense(model)
    for step in range(5):
        mask = policy.replacement(step, 5, model, mask) or mask
    assert mask.density() == pytest.approx(0.2, abs=1e-3)
    assert policy.may_keep(5, 5)


def test_pruned_weights_come_back_when_they_grow(model):
    policy = Repruned(prune(model, 0.5, None), (0.5,), prune, every=4)
    keeper = Keeper(policy, model, total=12)
    first = keeper.mask
    assert first is not None
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.masked_fill_(~first[name], 0.0)
            parameter[~first[name]] = 100.0  # what was pruned trains on, and outgrows the rest
    keeper.at("before_step", 3)
    assert keeper.mask is first
    keeper.at("after_step")
    assert (model[0].weight == 100).any(), "pruned weights are not held at zero between prunings"
    keeper.at("before_step", 4)
    assert keeper.mask is not None
    assert keeper.mask.kept == first.kept
    assert not keeper.mask.is_subset_of(first)
    assert all(not parameter[~keeper.mask[name]].any() for name, parameter in model.named_parameters())


def test_a_warm_start_is_not_left(model):
    """What the mask of the start prunes is held at zero and never comes back; the rest of it may."""
    within = prune(model, 0.6, None)
    policy = Repruned(prune(model, 0.3, within), (0.3,), lambda m, d, among: global_magnitude(m, d, among), 4, within)
    keeper = Keeper(policy, model, total=12)
    pruning.apply(policy.start, model)
    first = keeper.mask
    assert first is not None
    with torch.no_grad():
        for parameter in model.parameters():
            parameter[parameter == 0] = 100.0  # as an optimiser may
            parameter.grad = torch.ones_like(parameter)
    keeper.at("after_backward")
    keeper.at("after_step")
    for name, parameter in model.named_parameters():
        assert not parameter[~within[name]].any()
        assert not parameter.grad[~within[name]].any()
        assert (parameter[within[name] & ~first[name]] == 100).all()
        assert (parameter.grad[within[name]] == 1).all()
    keeper.at("before_step", 4)
    assert keeper.mask is not None
    assert keeper.mask.kept == first.kept
    assert keeper.mask.is_subset_of(within)
    assert not keeper.mask.is_subset_of(first)
    keeper.at("before_evaluation", 5)
    assert keeper.mask.is_subset_of(within)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()  # all are equal: only the mask of the start tells them apart
    keeper.at("before_step", 8)
    assert keeper.mask.is_subset_of(within)
    keeper.at("before_evaluation", 9)
    assert keeper.mask.is_subset_of(within)


def test_a_mask_that_shrinks_is_held_from_its_step_on(model):
    policy = Gradual(dense(model), 0.1, prune, begin=0.0, end=1.0, every=5)
    keeper = Keeper(policy, model, total=20)
    for step in range(20):
        keeper.at("before_step", step)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        keeper.at("after_step")
        assert keeper.mask is not None
        assert all((p == 0).equal(~keeper.mask[name]) for name, p in model.named_parameters())
    assert keeper.mask.density() == pytest.approx(0.1, abs=1e-3)


def test_a_model_is_pruned_again_before_it_is_evaluated(model):
    policy = Repruned(prune(model, 0.5, None), (0.5,), prune, every=1000)
    keeper = Keeper(policy, model, total=12)
    keeper.at("before_evaluation", 5)
    zeros = sum(int((parameter == 0).sum()) for parameter in model.parameters())
    assert zeros == 750


def test_progressive_densities_take_turns(model):
    policy = Repruned(prune(model, 0.8, None), (0.8, 0.5, 0.2), prune, every=1)
    assert [policy.density_at(step, 9) for step in range(9)] == [0.8] * 3 + [0.5] * 3 + [0.2] * 3
    assert [policy.may_keep(step, 9) for step in (3, 6, 9)] == [False, True, True]
