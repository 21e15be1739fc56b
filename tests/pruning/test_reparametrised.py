"""Weights that a module makes of other tensors: those tensors are left out, and what stays in prunes to exact zeros."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils import prune as torch_prune

from audio_lottery.pruning import apply, check, enforce, find_scope, prune

SEQUENCE, FRAME = (5, 2, 6), (2, 6)


class PlusOne(nn.Module):
    """A parametrisation under which no zero of the stored tensor is a zero of the weight."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight + 1


class LowRank(nn.Module):
    """A parametrisation with a linear layer of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Linear(1, 1)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + self.factor.weight.sum()


def twice(module: nn.Module, name: str) -> None:
    torch_prune.l1_unstructured(module, name, 0.2)
    torch_prune.random_unstructured(module, name, 0.2)


# way → (how, what the record says)
WAYS: dict[str, tuple[Callable[[nn.Module, str], object], str]] = {
    "old weight norm": (nn.utils.weight_norm, "weight norm"),
    "old spectral norm": (nn.utils.spectral_norm, "spectral norm"),
    "weight norm": (parametrizations.weight_norm, "weight norm"),
    "spectral norm": (parametrizations.spectral_norm, "spectral norm"),
    "orthogonal": (parametrizations.orthogonal, "orthogonal"),
    "own": (lambda m, n: parametrize.register_parametrization(m, n, PlusOne()), "plus one"),
    "own with a layer": (lambda m, n: parametrize.register_parametrization(m, n, LowRank()), "low rank"),
    "torch prune": (lambda m, n: torch_prune.l1_unstructured(m, n, 0.2), "l1 unstructured"),
    "torch prune, twice": (twice, "pruning container"),
    "torch prune, nothing": (torch_prune.identity, "identity"),
}
# kind → (module, shape of its input, the weight that is made, the weights that stay in the scope)
KINDS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str, list[str]]] = {
    "linear": (lambda: nn.Linear(6, 6), FRAME, "weight", []),
    "conv1d": (lambda: nn.Conv1d(6, 6, 3), (2, 6, 5), "weight", []),
    "conv2d": (lambda: nn.Conv2d(6, 6, 3), (2, 6, 5, 5), "weight", []),
    "conv3d": (lambda: nn.Conv3d(6, 6, 3), (2, 6, 5, 5, 5), "weight", []),
    "transposed1d": (lambda: nn.ConvTranspose1d(6, 6, 3), (2, 6, 5), "weight", []),
    "transposed2d": (lambda: nn.ConvTranspose2d(6, 6, 3), (2, 6, 5, 5), "weight", []),
    "transposed3d": (lambda: nn.ConvTranspose3d(6, 6, 3), (2, 6, 5, 5, 5), "weight", []),
    "lstm": (lambda: nn.LSTM(6, 6), SEQUENCE, "weight_hh_l0", ["weight_ih_l0"]),
    "lstm, inputs": (lambda: nn.LSTM(6, 6), SEQUENCE, "weight_ih_l0", ["weight_hh_l0"]),
    "lstm, projected": (
        lambda: nn.LSTM(6, 6, proj_size=3),
        SEQUENCE,
        "weight_hr_l0",
        ["weight_ih_l0", "weight_hh_l0"],
    ),
    "lstm, both ways": (
        lambda: nn.LSTM(6, 6, bidirectional=True),
        SEQUENCE,
        "weight_hh_l0_reverse",
        ["weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse"],
    ),
    "gru": (lambda: nn.GRU(6, 6), SEQUENCE, "weight_hh_l0", ["weight_ih_l0"]),
    "rnn": (lambda: nn.RNN(6, 6), SEQUENCE, "weight_hh_l0", ["weight_ih_l0"]),
    "lstm cell": (lambda: nn.LSTMCell(6, 6), FRAME, "weight_hh", []),
    "gru cell": (lambda: nn.GRUCell(6, 6), FRAME, "weight_hh", []),
    "rnn cell": (lambda: nn.RNNCell(6, 6), FRAME, "weight_hh", []),
}


class Both(nn.Module):
    """The module in question, and a linear layer so that there is always something to prune."""

    def __init__(self, subject: nn.Module) -> None:
        super().__init__()
        self.subject = subject
        self.plain = nn.Linear(6, 6)

    def forward(self, x: Tensor, frame: Tensor) -> tuple[Tensor, ...]:
        out = self.subject(x)
        while isinstance(out, tuple):
            out = out[0]
        return out, self.plain(frame)


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", WAYS)
def test_the_pieces_are_left_out_and_the_rest_prunes_to_exact_zeros(way, kind):
    torch.manual_seed(0)
    (make, shape, weight, others), (how, said) = KINDS[kind], WAYS[way]
    model = Both(make())
    before = {name for name, _ in model.named_parameters()}
    how(model.subject, weight)
    model.train()
    x, frame = torch.randn(shape), torch.randn(FRAME)

    scope = find_scope(model)
    assert set(scope.names) | set(scope.left_out) == {name for name, _ in model.named_parameters()}
    assert scope.names == [*(f"subject.{name}" for name in others), "plain.weight"]
    pieces = {name for name, _ in model.named_parameters()} - before
    assert pieces
    if "cell" not in kind and not kind.startswith("transposed"):  # of which nothing is in the scope at all
        assert {scope.left_out[name] for name in pieces} == {f"behind a parametrisation ({said})"}

    mask = prune(model, 0.1)
    stored = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    apply(mask, model)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, stored[name] * mask[name] if name in mask else stored[name])

    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    with enforce(mask, model, optimizer):
        for _ in range(2):
            outputs = model(x, frame)
            assert all(torch.isfinite(out).all() for out in outputs)
            sum(out.square().mean() for out in outputs).backward()
            optimizer.step()
            optimizer.zero_grad()
    check(mask, model)
    for name in others:  # what the module multiplies by, not only what it stores
        assert not getattr(model.subject, name)[~mask[f"subject.{name}"]].any()


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize(
    ("make", "undo"),
    [
        (nn.utils.weight_norm, nn.utils.remove_weight_norm),
        (nn.utils.spectral_norm, nn.utils.remove_spectral_norm),
        (torch_prune.identity, torch_prune.remove),
        (parametrizations.weight_norm, parametrize.remove_parametrizations),
    ],
)
def test_a_weight_that_is_a_parameter_again_is_prunable_again(make, undo):
    model = nn.Sequential(nn.LSTM(6, 6))
    make(model[0], "weight_hh_l0")
    undo(model[0], "weight_hh_l0")
    assert sorted(find_scope(model).names) == ["0.weight_hh_l0", "0.weight_ih_l0"]


def test_a_bias_that_is_made_does_not_take_the_weight_out():
    model = nn.Sequential(nn.Linear(6, 6))
    parametrize.register_parametrization(model[0], "bias", PlusOne())
    assert find_scope(model).names == ["0.weight"]


def test_a_plain_weight_that_is_also_a_piece_of_another_is_left_out():
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6))
    parametrizations.weight_norm(model[1])
    model[0].weight = model[1].parametrizations.weight.original1
    scope = find_scope(model)
    assert scope.names == ["2.weight"]
    tied = "tied to '1.parametrizations.weight.original1' (behind a parametrisation (weight norm))"
    assert scope.left_out["0.weight"] == tied


def test_the_attention_whose_input_weight_is_made_keeps_its_output_weight():
    model = nn.Sequential(nn.MultiheadAttention(6, 2))
    parametrize.register_parametrization(model[0], "in_proj_weight", PlusOne())
    mask = prune(model, 0.1)
    assert list(mask) == ["0.out_proj.weight"]
    apply(mask, model)
    x = torch.randn(5, 2, 6)
    assert torch.isfinite(model[0](x, x, x)[0]).all()
