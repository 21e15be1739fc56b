"""ScoreInputs equals slow literal implementations, and the model is left as it was."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from audio_lottery.errors import MaskError
from audio_lottery.pruning import find_scope
from audio_lottery.pruning.calibrate import MovementAccumulator, collect


def output_sum(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().sum()


def activations(model: nn.Module, batches: list, loss: Callable = output_sum) -> dict[str, Tensor]:
    return dict(collect(model, find_scope(model).names, batches, loss=loss, saliency=False).activations)


def test_linear_norms_are_over_all_positions_of_all_batches():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    batches = [torch.randn(2, 5, 4), torch.randn(1, 7, 4)]
    inputs = torch.cat([batch.reshape(-1, 4) for batch in batches])
    found = activations(model, batches)
    torch.testing.assert_close(found["0.weight"], inputs.norm(dim=0))
    torch.testing.assert_close(found["2.weight"], model[0](inputs).relu().norm(dim=0).detach())
    assert found["0.weight"].dtype == torch.float32


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "mode"),
    [
        (3, 1, 0, 1, "zeros"),
        (4, 3, 2, 1, "zeros"),
        (3, 2, 1, 2, "zeros"),
        (4, 1, "same", 1, "zeros"),
        (3, 1, 1, 1, "reflect"),
        (3, 2, 2, 1, "circular"),
        (1, 1, "valid", 1, "zeros"),
    ],
)
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_convolution_norms_are_those_of_the_columns_the_kernel_multiplies(
    kernel, stride, padding, dilation, mode, groups
):
    """A convolution is a matrix product with unfolded inputs, so column j of the flat weight sees input column j."""
    torch.manual_seed(0)
    layer = nn.Conv1d(6, 12, kernel, stride, padding, dilation, groups, bias=False, padding_mode=mode)
    x = torch.randn(3, 6, 17)
    found = activations(nn.Sequential(layer), [x])["0.weight"]

    pad_mode = "constant" if mode == "zeros" else mode
    padded = nn.functional.pad(x, layer._reversed_padding_repeated_twice, mode=pad_mode)
    columns = nn.functional.unfold(padded[:, :, None], (1, kernel), (1, dilation), 0, (1, stride))  # [n, 6·kernel, t]
    columns = columns.reshape(3, groups, 6 // groups * kernel, -1)
    matrix = layer.weight.reshape(groups, 12 // groups, -1)
    product = torch.einsum("goc,ngct->ngot", matrix, columns).reshape(3, 12, -1)
    torch.testing.assert_close(product, layer(x))  # so these are the columns

    per_group = columns.square().sum((0, 3)).sqrt()
    expected = per_group[0] if groups == 1 else per_group.repeat_interleave(12 // groups, 0)
    torch.testing.assert_close(found, expected)
    assert (layer.weight.reshape(12, -1).abs() * found).shape == (12, 6 // groups * kernel)


def test_convolution_in_two_dimensions_and_without_a_batch_dimension():
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 4, (3, 2), (2, 1), (1, 2), (1, 3))
    x = torch.randn(2, 3, 9, 11)
    columns = nn.functional.unfold(x, (3, 2), (1, 3), (1, 2), (2, 1))
    model = nn.Sequential(layer)
    torch.testing.assert_close(activations(model, [x])["0.weight"], columns.square().sum((0, 2)).sqrt())
    torch.testing.assert_close(activations(model, [x[0], x[1]]), activations(model, [x]))


CELLS = {
    "lstm": (nn.LSTM, nn.LSTMCell, {}),
    "gru": (nn.GRU, nn.GRUCell, {}),
    "rnn": (nn.RNN, nn.RNNCell, {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("with_state", [False, True])
@pytest.mark.parametrize("kind", CELLS)
def test_recurrent_norms_follow_the_recurrence(kind, with_state, batch_first):
    """Two bidirectional layers, step by step with cells; dropout between the layers does not act."""
    torch.manual_seed(0)
    layer_type, cell_type, options = CELLS[kind]
    module = layer_type(3, 5, 2, bidirectional=True, batch_first=batch_first, dropout=0.5, **options)
    x = torch.randn(7, 2, 3)
    h = torch.randn(4, 2, 5) if with_state else torch.zeros(4, 2, 5)
    c = torch.randn(4, 2, 5) if with_state else torch.zeros(4, 2, 5)

    def run(model: nn.Module, batch: Tensor) -> Tensor:
        state = ((h, c) if kind == "lstm" else h,) if with_state else ()
        return model(batch.transpose(0, 1) if batch_first else batch, *state)[0].sum()

    found = activations(module, [x], run)

    expected: dict[str, Tensor] = {}
    inputs = x
    with torch.no_grad():
        for layer in range(2):
            outputs = []
            for direction, suffix in enumerate((f"l{layer}", f"l{layer}_reverse")):
                cell = cell_type(inputs.shape[-1], 5, **options)
                for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                    setattr(cell, name, getattr(module, f"{name}_{suffix}"))
                hidden, memory = h[2 * layer + direction], c[2 * layer + direction]
                seen, steps = [], []
                for frame in inputs.flip(0) if direction else inputs:
                    seen.append(hidden)
                    if kind == "lstm":
                        hidden, memory = cell(frame, (hidden, memory))
                    else:
                        hidden = cell(frame, hidden)
                    steps.append(hidden)
                expected[f"weight_ih_{suffix}"] = inputs.reshape(-1, inputs.shape[-1]).norm(dim=0)
                expected[f"weight_hh_{suffix}"] = torch.cat(seen).norm(dim=0)
                outputs.append(torch.stack(steps).flip(0) if direction else torch.stack(steps))
            inputs = torch.cat(outputs, -1)
    assert set(found) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-5, msg=name)


def test_packed_sequences_have_no_padding():
    torch.manual_seed(0)
    module = nn.LSTM(3, 4, 2, bidirectional=True)
    x = torch.randn(6, 3, 3)

    def packed(model: nn.Module, batch: Tensor) -> Tensor:
        return model(pack_padded_sequence(batch, torch.tensor([3, 6, 2]), enforce_sorted=False))[0].data.sum()

    one_by_one = [x[:length, index, None] for index, length in enumerate([3, 6, 2])]
    found = activations(module, [x], packed)
    expected = activations(module, one_by_one, lambda model, batch: model(batch)[0].sum())
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)


def test_a_tied_weight_gathers_the_inputs_of_all_its_uses():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    x = torch.randn(5, 4)
    second = model[0](x).detach()
    torch.testing.assert_close(activations(model, [x]), {"0.weight": torch.cat([x, second]).norm(dim=0)})


def test_saliency_is_the_sum_over_batches_of_weight_times_gradient():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.Dropout(0.5), nn.Conv1d(3, 2, 1))
    batches = [torch.randn(2, 2, 9) for _ in range(3)]
    score_inputs = collect(model, ["0.weight", "3.weight"], batches, loss=output_sum, activations=False)
    assert score_inputs.activations is None
    model.eval()
    for name in ("0.weight", "3.weight"):
        expected = torch.zeros_like(model.get_parameter(name))
        for batch in batches:
            model.zero_grad()
            output_sum(model, batch).backward()
            expected += (model.get_parameter(name) * model.get_parameter(name).grad).abs().detach()
        torch.testing.assert_close(score_inputs.saliency[name], expected)


def test_max_batches_stops_reading():
    model = nn.Sequential(nn.Linear(4, 2))
    read = []

    def stream():
        for index in range(10):
            read.append(index)
            yield torch.ones(1, 4) * (index + 1)

    score_inputs = collect(model, ["0.weight"], stream(), loss=output_sum, saliency=False, max_batches=2)
    torch.testing.assert_close(score_inputs.activations["0.weight"], torch.full((4,), 5.0).sqrt())
    assert read == [0, 1]


@pytest.mark.parametrize("raises", [False, True])
def test_the_model_is_left_as_it_was(raises):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    model[1].eval()
    model[3].weight.grad = torch.ones(2, 4)
    buffers = {name: value.clone() for name, value in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    random_state = torch.get_rng_state()

    def loss(module: nn.Module, batch: Tensor) -> Tensor:
        assert not module.training
        torch.rand(3)
        if raises and batch[0, 0] > 1:
            raise RuntimeError("broken batch")
        return output_sum(module, batch)

    batches = [torch.ones(3, 4), torch.full((3, 4), 2.0)]
    if raises:
        with pytest.raises(RuntimeError, match="broken batch"):
            collect(model, ["0.weight", "3.weight"], batches, loss=loss)
    else:
        score_inputs = collect(model, ["0.weight", "3.weight"], batches, loss=loss)
        assert score_inputs.saliency["0.weight"].any()  # a frozen weight has saliency too
    assert [module.training for module in model.modules()] == modes
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True, True]
    assert torch.equal(model[3].weight.grad, torch.ones(2, 4))
    assert model[0].weight.grad is None
    assert model[3].bias.grad is None
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(torch.equal(value, buffers[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


class WithLoss(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, x: Tensor, labels: Tensor | None = None) -> SimpleNamespace:
        logits = self.linear(x)
        return SimpleNamespace(logits=logits, loss=None if labels is None else (logits - labels).square().mean())


def test_transformers_models_need_no_loss_function():
    batch = {"x": torch.randn(3, 4), "labels": torch.zeros(3, 2)}
    assert collect(WithLoss(), ["linear.weight"], [batch]).saliency["linear.weight"].shape == (2, 4)
    with pytest.raises(MaskError, match=r"no loss for a calibration batch; add labels, or pass loss="):
        collect(WithLoss(), ["linear.weight"], [{"x": batch["x"]}])
    with pytest.raises(MaskError, match=r"a batch is a Tensor, not a mapping"):
        collect(WithLoss(), ["linear.weight"], [batch["x"]])


def fails(message: str, model: nn.Module, names: list[str], batches: list, **options) -> None:
    options.setdefault("loss", output_sum)
    with pytest.raises(MaskError, match=message):
        collect(model, names, batches, **options)


def test_what_cannot_be_collected_is_refused():
    linear, x = nn.Sequential(nn.Linear(4, 2)), torch.ones(1, 4)
    fails(r"the calibration set is empty; give at least one batch", linear, ["0.weight"], [])
    fails(r"the calibration set is empty", linear, ["0.weight"], [x], max_batches=0)
    fails(r"no parameters of the model: 1\.weight", linear, ["1.weight"], [x])
    fails(r"batch 2: the loss is nan; leave it out", linear, ["0.weight"], [x, x * float("nan")])
    fails(r"batch 1: loss must return a scalar tensor, not float", linear, ["0.weight"], [x], loss=lambda m, b: 1.0)
    fails(r"batch 1: the loss does not depend", linear, ["0.weight"], [x], loss=lambda m, b: b.sum())
    embedding = nn.Sequential(nn.Embedding(5, 4))
    fails(r"0\.weight: the inputs of a Embedding cannot be seen", embedding, ["0.weight"], [torch.tensor([1])])
    fails(r"0\.bias: only the inputs of weights of a Linear", linear, ["0.bias"], [x])
    fails(r"weight_hr_l0: only .* not those of biases and LSTM proj", nn.LSTM(4, 4, proj_size=2), ["weight_hr_l0"], [x])


def test_inputs_that_no_hook_sees_are_refused():
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(4, 2)
            self.unused = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x)[0]

    x = torch.randn(3, 1, 4)
    fails(r"never called the module of attention\.out_proj\.weight", Attention(), ["attention.out_proj.weight"], [x])
    fails(
        r"the loss does not depend on unused\.weight; leave them out",
        Attention(),
        ["attention.out_proj.weight", "unused.weight"],
        [x],
        activations=False,
    )


def train(
    model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, scaler: torch.amp.GradScaler | None
) -> None:
    for step in steps:
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * (step + 1)
        loss = output_sum(model, torch.randn(4, 4, generator=torch.Generator().manual_seed(step)))
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        optimizer.zero_grad()


OPTIMIZERS = {
    "sgd": lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9),
    "adamw-fused": lambda parameters: torch.optim.AdamW(parameters, lr=0.1, fused=True),
}


def movement_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2))


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_movement_is_the_sum_of_minus_rate_times_weight_times_gradient(kind, scaled):
    model = movement_model()
    optimizer = OPTIMIZERS[kind](model.parameters())
    expected = torch.zeros(3, 4)

    def literal(inner, *_):
        scale = getattr(inner, "grad_scale", None)
        gradient = model[0].weight.grad / (1 if scale is None else scale)
        expected.sub_(inner.param_groups[0]["lr"] * model[0].weight.detach() * gradient)

    optimizer.register_step_pre_hook(literal)
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0) if scaled else None
    with MovementAccumulator(model, ["0.weight"], optimizer) as movement:
        train(model, optimizer, range(4), scaler)
        score_inputs = movement.score_inputs()
    torch.testing.assert_close(score_inputs.movement["0.weight"], expected)
    assert (score_inputs.movement["0.weight"] < 0).any()
    assert (score_inputs.movement["0.weight"] > 0).any()
    train(model, optimizer, range(4, 5), None)
    assert torch.equal(movement.state_dict()["0.weight"], score_inputs.movement["0.weight"])  # removed


def test_movement_does_not_count_steps_that_the_scaler_skips():
    for make in OPTIMIZERS.values():
        model = movement_model()
        optimizer = make(model.parameters())
        scaler = torch.amp.GradScaler("cpu")
        movement = MovementAccumulator(model, ["0.weight"], optimizer)
        scaler.scale(output_sum(model, torch.ones(1, 4))).backward()
        model[0].weight.grad[0, 0] = float("inf")
        scaler.step(optimizer)
        assert not movement.state_dict()["0.weight"].any()


def test_movement_resumes_where_it_stopped():
    whole = movement_model()
    optimizer = OPTIMIZERS["sgd"](whole.parameters())
    uninterrupted = MovementAccumulator(whole, ["0.weight", "2.weight"], optimizer)
    train(whole, optimizer, range(4), None)

    model = movement_model()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    first = MovementAccumulator(model, ["0.weight", "2.weight"], optimizer)
    train(model, optimizer, range(2), None)
    state = first.state_dict()
    first.remove()
    second = MovementAccumulator(model, ["0.weight", "2.weight"], optimizer)
    second.load_state_dict(state)
    train(model, optimizer, range(2, 4), None)
    for name, tensor in uninterrupted.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor)
    with pytest.raises(MaskError, match="other parameters or shapes"):
        second.load_state_dict({"0.weight": state["0.weight"]})


def test_movement_needs_the_learning_rate_of_its_parameters():
    model = movement_model()
    with pytest.raises(MaskError, match=r"does not train 2\.weight; movement needs its learning rate"):
        MovementAccumulator(model, ["0.weight", "2.weight"], torch.optim.SGD(model[0].parameters(), lr=0.1))
    with pytest.raises(MaskError, match=r"no parameters of the model: 5\.weight"):
        MovementAccumulator(model, ["5.weight"], torch.optim.SGD(model.parameters(), lr=0.1))
