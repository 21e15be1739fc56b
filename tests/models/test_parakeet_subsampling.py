"""The depthwise convolutions of Parakeet's subsampling train in float32: the numbers are those of torch's own."""

import copy

import torch
from torch import nn

from audio_lottery.config import ModelConfig
from audio_lottery.models.load import load_backbone


def _subsampling() -> nn.Module:
    backbone = load_backbone(ModelConfig(init="conformer-mini"), seed=1)
    return backbone.module.encoder.subsampling


def _plain(module: nn.Module) -> nn.Module:
    twin = copy.deepcopy(module)
    for layer in twin.layers:
        if isinstance(layer, nn.Conv2d):
            layer.__class__ = nn.Conv2d
    return twin


def _gradients(module: nn.Module, features: torch.Tensor) -> list[torch.Tensor]:
    module(features).square().sum().backward()
    return [parameter.grad for parameter in module.parameters()]


def test_output_and_gradients_are_those_of_plain_convolutions() -> None:
    ours = _subsampling()
    plain = _plain(ours)
    changed = [type(layer) for layer in ours.layers if isinstance(layer, nn.Conv2d) and type(layer) is not nn.Conv2d]
    assert changed  # else this test compares a module with itself
    features = torch.randn(3, 120, 64)
    torch.testing.assert_close(ours(features), plain(features))
    for mine, theirs in zip(_gradients(ours, features), _gradients(plain, features), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_under_autocast_they_are_nearer_to_float32_than_plain_ones() -> None:
    ours = _subsampling()
    plain = _plain(ours)
    features = torch.randn(3, 120, 64)
    exact = plain(features)
    with torch.autocast("cpu", torch.bfloat16):
        mine, theirs = ours(features), plain(features)
    assert (mine - exact).norm() <= (theirs - exact).norm()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):  # evaluation stays as it was
        torch.testing.assert_close(ours(features), plain(features), rtol=0, atol=0)
