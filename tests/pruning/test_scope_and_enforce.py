"""What may be pruned, and that pruned weights stay at zero under a real optimiser."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from audio_lottery import pruning
from audio_lottery.errors import MaskError
from audio_lottery.pruning import Enforcer, Mask, find_scope, global_magnitude


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.conv = nn.Conv1d(8, 8, 3)
        self.positional = parametrizations.weight_norm(nn.Conv1d(8, 8, 3), name="weight", dim=2)
        self.norm = nn.LayerNorm(8)
        self.lstm = nn.LSTM(8, 8)
        self.linear = nn.Linear(8, 8)
        self.lm_head = nn.Linear(8, 3)


def test_scope_lists_what_is_prunable_and_why_the_rest_is_not():
    scope = find_scope(Encoder(), exclude=[r"^lm_head\."])
    assert scope.names == ["conv.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "linear.weight"]
    assert scope.left_out["lm_head.weight"] == r"excluded by '^lm_head\.'"
    assert scope.left_out["positional.parametrizations.weight.original1"] == "behind a parametrisation (weight norm)"
    assert scope.left_out["embedding.weight"] == "Embedding parameter"
    assert scope.left_out["conv.bias"] == "bias"
    assert set(scope.names) | set(scope.left_out) == {name for name, _ in Encoder().named_parameters()}


def test_scope_that_matches_nothing_suggests_names():
    with pytest.raises(MaskError, match=r"matches no prunable weight; nearest prunable names: .*linear\.weight"):
        find_scope(Encoder(), include=["liner.weight"])
    with pytest.raises(MaskError, match="not a regular expression"):
        find_scope(Encoder(), include=["("])


def test_tied_weights_count_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert find_scope(model).names == ["0.weight"]


def train_steps(model: nn.Module, mask: Mask, steps: int = 5) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):  # momentum on every weight before the mask comes
        model(torch.randn(8, 16)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    pruning.apply(mask, model)
    enforcer = Enforcer(mask, model)
    for _ in range(steps):
        model(torch.randn(8, 16)).square().sum().backward()
        enforcer.mask_gradients()
        for name, tensor in mask.items():
            assert not model.get_parameter(name).grad[~tensor].any()
        optimizer.step()
        enforcer.mask_weights()
        optimizer.zero_grad()


def test_adamw_cannot_revive_pruned_weights():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))
    mask = global_magnitude(model, 0.25, among=Mask.dense(model, find_scope(model).names))
    train_steps(model, mask)
    pruning.check(mask, model)
    for name, tensor in mask.items():
        assert not model.get_parameter(name)[~tensor].any()
        assert model.get_parameter(name)[tensor].all()


def test_check_names_revived_weights():
    model = nn.Sequential(nn.Linear(4, 4))
    mask = Mask({"0.weight": torch.zeros(4, 4, dtype=torch.bool)})
    with pytest.raises(MaskError, match=r"0\.weight \(16\)"):
        pruning.check(mask, model)


def test_apply_keeps_survivors_bit_for_bit_and_leaves_positive_zeros():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8))
    before = model[0].weight.detach().clone()
    mask = Mask({"0.weight": torch.rand(8, 8) < 0.5})
    pruning.apply(mask, model)
    after = model[0].weight.detach()
    assert torch.equal(after[mask["0.weight"]], before[mask["0.weight"]])
    assert not torch.signbit(after[~mask["0.weight"]]).any()
