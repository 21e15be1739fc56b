"""Pruned weights stay exactly zero under real optimisers, and the survivors train as if the others were not there."""

import copy
from collections.abc import Callable

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from audio_lottery import pruning
from audio_lottery.errors import MaskError
from audio_lottery.pruning import Enforcer, Mask
from audio_lottery.pruning.enforce import clear_state, enforce

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1, amsgrad=True, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.05, weight_decay=0.1),
}


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


def random_mask(seed: int = 0, density: float = 0.3) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (16, 16), "2.weight": (4, 16)}
    return Mask({name: torch.rand(shape, generator=generator) < density for name, shape in shapes.items()})


def backward(model: nn.Module, seed: int, scaler: torch.amp.GradScaler | None = None) -> None:
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(seed))
    loss = model(x).square().mean()
    (loss if scaler is None else scaler.scale(loss)).backward()


def is_zero(mask: Mask, model: nn.Module) -> bool:
    return not any(bool(model.get_parameter(name)[~tensor].any()) for name, tensor in mask.items())


def warm(make: Callable[..., torch.optim.Optimizer]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model after three dense steps: there is momentum on every weight before the mask comes."""
    model = build()
    optimizer = make(model.parameters())
    for seed in range(3):
        backward(model, seed)
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer


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
    with pytest.raises(MaskError, match=r"'3\.weight' is no parameter"):
        handle.update(Mask({"3.weight": torch.ones(1, dtype=torch.bool)}))
    backward(model, 100)
    optimizer.step()
    assert handle.mask == mask
    assert is_zero(mask, model)


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
