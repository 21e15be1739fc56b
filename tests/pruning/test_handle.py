"""The handle of `enforce`: what it changes, how it is updated, how it lets go, and which optimisers it takes."""

import copy

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file

from audio_lottery.errors import MaskError
from audio_lottery.pruning import Mask
from audio_lottery.pruning.enforce import clear_state, enforce
from tests.pruning.small import OPTIMIZERS, backward, build, is_zero, random_mask, warm


def test_a_removed_handle_lets_go():
    mask = random_mask()
    model, optimizer = warm(OPTIMIZERS["adamw-fused"])
    handle = enforce(mask, model, optimizer)
    handle.remove()
    backward(model, 100)
    assert model.get_parameter("0.weight").grad[~mask["0.weight"]].any()
    optimizer.step()
    assert not is_zero(mask, model)


def test_an_exception_in_the_block_lets_go_too():
    mask = random_mask()
    model, optimizer = warm(OPTIMIZERS["sgd"])
    with pytest.raises(RuntimeError, match="stop"), enforce(mask, model, optimizer):
        raise RuntimeError("stop")
    backward(model, 100)
    optimizer.step()
    assert not is_zero(mask, model)


def test_the_module_itself_is_untouched(tmp_path):
    mask = random_mask()
    model, optimizer = warm(OPTIMIZERS["adamw-fused"])
    names = list(model.state_dict())
    dense = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    enforce(mask, model, optimizer)
    assert list(model.state_dict()) == names
    assert not model._forward_pre_hooks
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    saved = load_file(tmp_path / "model.safetensors")
    assert not any(bool(saved[name][~tensor].any()) for name, tensor in mask.items())

    twin = copy.deepcopy(model)
    free = torch.optim.SGD(twin.parameters(), lr=0.1)
    backward(twin, 100)
    free.step()
    assert not is_zero(mask, twin)  # a copy is not held
    assert is_zero(mask, model)

    model.load_state_dict(dense)  # somebody loads dense weights in the middle of training
    backward(model, 100)
    optimizer.step()
    assert is_zero(mask, model)


def test_gradients_that_were_there_before_are_masked():
    mask = random_mask()
    model, optimizer = warm(OPTIMIZERS["sgd"])
    backward(model, 100)
    enforce(mask, model, optimizer)
    assert not model.get_parameter("0.weight").grad[~mask["0.weight"]].any()


def test_update_changes_the_mask_in_both_directions():
    first, second = random_mask(0), random_mask(1)
    model, optimizer = warm(OPTIMIZERS["adamw-fused"])
    handle = enforce(first, model, optimizer)
    backward(model, 100)
    optimizer.step()
    before = {name: model.get_parameter(name).detach().clone() for name in first}
    handle.update(second)
    assert handle.mask == second
    assert is_zero(second, model)
    for name in first:
        both = first[name] & second[name]
        assert torch.equal(model.get_parameter(name)[both], before[name][both])
    backward(model, 101)
    optimizer.step()
    assert is_zero(second, model)
    for name in first:
        assert model.get_parameter(name)[second[name] & ~first[name]].any()  # what comes back trains
    handle.remove()
    assert not optimizer._optimizer_step_post_hooks


def test_update_takes_tensors_in_and_lets_others_go():
    model, optimizer = warm(OPTIMIZERS["sgd"])
    whole = random_mask(0, density=2.0)  # keeps everything
    handle = enforce(whole, model, optimizer)
    only_last = Mask({"2.weight": random_mask(1)["2.weight"]})
    handle.update(only_last)
    backward(model, 100)
    assert model.get_parameter("0.weight").grad.all(dim=1).any()
    optimizer.step()
    assert is_zero(only_last, model)


def test_a_refused_update_leaves_the_former_mask_in_force():
    mask = random_mask()
    model, optimizer = warm(OPTIMIZERS["sgd"])
    handle = enforce(mask, model, optimizer)
    with pytest.raises(MaskError, match=r"'3\.weight' is not a parameter"):
        handle.update(Mask({"3.weight": torch.ones(1, dtype=torch.bool)}))
    backward(model, 100)
    optimizer.step()
    assert handle.mask == mask
    assert is_zero(mask, model)


def test_an_optimizer_of_another_model_is_refused():
    with pytest.raises(MaskError, match=r"does not train 0\.weight, 2\.weight: it was made for another model"):
        enforce(random_mask(), build(), torch.optim.SGD(build().parameters(), lr=0.1))


def test_several_optimizers_share_the_parameters():
    mask = random_mask()
    model = build()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1, weight_decay=0.1)
    second = torch.optim.AdamW(model[2].parameters(), lr=0.1)
    with pytest.raises(MaskError, match=r"does not train 2\.weight"):
        enforce(mask, model, first)
    enforce(mask, model, [first, second])
    for step in range(2):
        backward(model, step)
        first.step()
        second.step()
        assert is_zero(mask, model)


def test_accelerate_wraps_the_optimizer():
    mask = random_mask()
    model, optimizer = warm(OPTIMIZERS["adamw-fused"])
    wrapped = Accelerator(cpu=True).prepare(optimizer)
    handle = enforce(mask, model, wrapped)
    backward(model, 100)
    wrapped.step()
    assert is_zero(mask, model)
    clear_state(mask, model, wrapped)
    handle.remove()
    backward(model, 100)
    wrapped.step()
    assert not is_zero(mask, model)


def test_a_parameter_unfrozen_later_is_held():
    mask = random_mask()
    model = build()
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    enforce(mask, model, optimizer)
    model[0].weight.requires_grad_(True)
    backward(model, 0)
    optimizer.step()
    assert not model[0].weight.grad[~mask["0.weight"]].any()
    assert is_zero(mask, model)
