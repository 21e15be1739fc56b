"""`apply`, `check` and `clear_state`: exact zeros, survivors bit for bit, and what does not fit is refused."""

import copy

import pytest
import torch
from torch import Tensor, nn

from audio_lottery import pruning
from audio_lottery.errors import MaskError
from audio_lottery.pruning import Enforcer, Mask
from audio_lottery.pruning.enforce import clear_state
from tests.pruning.small import OPTIMIZERS, backward, build, is_zero, random_mask, warm


def test_state_of_pruned_weights_is_cleared_and_nothing_else():
    mask = random_mask()
    for kind in ("adamw-fused", "amsgrad", "sgd", "adafactor"):
        model, optimizer = warm(OPTIMIZERS[kind])
        before = copy.deepcopy(optimizer.state_dict()["state"])
        clear_state(mask, model, optimizer)
        after = optimizer.state_dict()["state"]
        masks = [mask["0.weight"], None, mask["2.weight"], None]
        for index, tensor in enumerate(masks):
            for key, value in after[index].items():
                if tensor is not None and value.shape == tensor.shape:
                    assert kind != "adafactor"
                    assert before[index][key][~tensor].any()
                    assert not value[~tensor].any()
                    assert torch.equal(value[tensor], before[index][key][tensor])
                else:
                    assert torch.equal(value, before[index][key])


def test_cleared_state_masked_gradients_and_zero_weights_stay_zero_by_themselves():
    """Why a pruned weight cannot leak through elementwise optimisers once everything of it is zero."""
    mask = random_mask()
    model, optimizer = warm(OPTIMIZERS["adamw-fused"])
    pruning.apply(mask, model)
    clear_state(mask, model, optimizer)
    enforcer = Enforcer(mask, model)
    for step in range(3):
        backward(model, 100 + step)
        enforcer.mask_gradients()
        optimizer.step()
        optimizer.zero_grad()
    assert is_zero(mask, model)


def test_quantised_state_is_refused():
    mask = random_mask()
    model, optimizer = warm(OPTIMIZERS["sgd"])
    optimizer.state[model[0].weight]["codes"] = torch.zeros(16, 16, dtype=torch.uint8)
    with pytest.raises(MaskError, match=r"'codes' of '0\.weight' is torch\.uint8: quantised state cannot be cleared"):
        clear_state(mask, model, optimizer)


def test_check_names_revived_weights():
    model = nn.Sequential(nn.Linear(4, 4))
    mask = Mask({"0.weight": torch.zeros(4, 4, dtype=torch.bool)})
    with pytest.raises(MaskError, match=r"0\.weight \(16\)"):
        pruning.check(mask, model)
    pruning.apply(mask, model)
    with torch.no_grad():
        model[0].weight[1, 2] = float("nan")
    with pytest.raises(MaskError, match=r"0\.weight \(1\)"):
        pruning.check(mask, model)


def test_apply_keeps_survivors_bit_for_bit_and_leaves_positive_zeros():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8))
    before = model[0].weight.detach().clone()
    mask = Mask({"0.weight": torch.rand(8, 8) < 0.5})
    pruning.apply(mask, model)
    after: Tensor = model[0].weight.detach()
    assert torch.equal(after[mask["0.weight"]], before[mask["0.weight"]])
    assert not torch.signbit(after[~mask["0.weight"]]).any()


@pytest.mark.parametrize("function", [pruning.apply, pruning.check, Enforcer])
def test_a_mask_that_does_not_fit_is_refused(function):
    with pytest.raises(MaskError, match=r"'0\.weight' is \(2,\) here and \(16, 16\) in the model"):
        function(Mask({"0.weight": torch.ones(2, dtype=torch.bool)}), build())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_whatever_a_pruned_weight_holds_becomes_positive_zero_and_survivors_keep_their_bits(dtype):
    values = torch.tensor([1.5, -2.0, -0.0, float("inf"), float("nan"), 1e-7, -float("inf"), 0.0], dtype=dtype)
    model = nn.Module()
    model.weight = nn.Parameter(torch.stack([values, values]))
    kept = torch.zeros(2, 8, dtype=torch.bool)
    kept[1] = True
    mask = Mask({"weight": kept})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    enforcer = Enforcer(mask, model)
    model.weight.grad = model.weight.detach().clone()
    enforcer.mask_gradients()
    enforcer.mask_weights()
    optimizer.state[model.weight]["momentum_buffer"] = torch.stack([values, values])
    clear_state(mask, model, optimizer)
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[values.element_size()]
    for tensor in (model.weight.detach(), model.weight.grad, optimizer.state[model.weight]["momentum_buffer"]):
        assert not tensor[0].view(integers).any()
        assert torch.equal(tensor[1].view(integers), values.view(integers))
