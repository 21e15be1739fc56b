"""Pruned weights stay exactly zero under real optimisers, and the survivors train as if the others were not there."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from audio_lottery import pruning
from audio_lottery.errors import MaskError
from audio_lottery.pruning import Enforcer, Mask
from audio_lottery.pruning.enforce import enforce
from tests.pruning.small import OPTIMIZERS, backward, is_zero, random_mask, warm


def literal_steps(mask: Mask, make: Callable[..., torch.optim.Optimizer], micro_batches: int = 1) -> nn.Module:
    """The definition: mask the accumulated gradient, clip, step, mask the weights."""
    model, optimizer = warm(make)
    pruning.apply(mask, model)
    for step in range(5):
        for micro in range(micro_batches):
            backward(model, 100 + 10 * step + micro)
        for name, tensor in mask.items():
            model.get_parameter(name).grad[~tensor] = 0.0
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        with torch.no_grad():
            for name, tensor in mask.items():
                model.get_parameter(name)[~tensor] = 0.0
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("micro_batches", [1, 3])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_zeros_hold_after_every_step_and_survivors_train_as_by_the_definition(kind, micro_batches):
    mask = random_mask()
    expected = literal_steps(mask, OPTIMIZERS[kind], micro_batches)
    model, optimizer = warm(OPTIMIZERS[kind])
    with enforce(mask, model, optimizer):
        assert is_zero(mask, model)
        for step in range(5):
            for micro in range(micro_batches):
                backward(model, 100 + 10 * step + micro)
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            optimizer.zero_grad()
            assert is_zero(mask, model)
            pruning.check(mask, model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, expected.get_parameter(name)), name


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_the_enforcer_called_by_hand_does_the_same(kind):
    mask = random_mask()
    expected = literal_steps(mask, OPTIMIZERS[kind])
    model, optimizer = warm(OPTIMIZERS[kind])
    pruning.apply(mask, model)
    enforcer = Enforcer(mask, model)
    for step in range(5):
        backward(model, 100 + 10 * step)
        enforcer.mask_gradients()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        enforcer.mask_weights()
        optimizer.zero_grad()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, expected.get_parameter(name)), name


def test_without_enforcement_weights_come_back():
    mask = random_mask()
    model, optimizer = warm(OPTIMIZERS["adamw-fused"])
    pruning.apply(mask, model)
    backward(model, 100)
    optimizer.step()
    with pytest.raises(MaskError, match=r"weights outside the mask are not zero: 0\.weight \(\d+\), 2\.weight \(\d+\)"):
        pruning.check(mask, model)


@pytest.mark.parametrize("kind", ["sgd", "adamw-fused", "adamw-foreach"])
def test_loss_scaling_changes_nothing_and_skipped_steps_keep_zeros(kind):
    mask = random_mask()
    expected, optimizer = warm(OPTIMIZERS[kind])
    with enforce(mask, expected, optimizer):
        for step in range(3):
            backward(expected, 100 + step)
            optimizer.step()
            optimizer.zero_grad()
    model, optimizer = warm(OPTIMIZERS[kind])
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    with enforce(mask, model, optimizer):
        for step in range(4):
            backward(model, 100 + step, scaler)
            if step == 3:
                model.get_parameter("0.bias").grad[0] = float("inf")
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            assert is_zero(mask, model)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter, expected.get_parameter(name))


def test_recurrent_weights_are_masked_in_place():
    torch.manual_seed(0)
    model = nn.LSTM(4, 8, num_layers=2)
    mask = Mask({name: torch.rand(p.shape) < 0.4 for name, p in model.named_parameters() if "weight" in name})
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    enforce(mask, model, optimizer)
    pointers = [weight.data_ptr() for weight in model._flat_weights]
    for _ in range(2):
        model(torch.randn(5, 2, 4))[0].square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        assert is_zero(mask, model)
    assert [weight.data_ptr() for weight in model._flat_weights] == pointers
