"""Where sparse overtakes dense."""

import copy

import pytest
import torch
from torch import nn

from audio_lottery.errors import ConfigError
from audio_lottery.sparse.benchmark import BenchmarkSettings, break_even
from audio_lottery.sparse.benchmark.break_even import LAYERS, Layer


def test_layers_run_on_their_inputs() -> None:
    for layer in LAYERS:
        assert layer.make()(torch.randn(layer.shape(9))) is not None
    frames = 49
    outputs = {layer.kind: layer.make()(torch.randn(layer.shape(frames))) for layer in LAYERS if "conv" in layer.kind}
    assert [output.shape[-1] for output in outputs.values()] == [4 * frames + 3, frames]


def test_every_layer_pattern_and_precision_is_forced_and_measured(stand_in) -> None:
    layers = [
        Layer("linear", lambda: nn.Linear(32, 32), lambda frames: (1, frames, 32)),
        Layer("lstm", lambda: nn.LSTM(32, 32, batch_first=True), lambda frames: (1, frames, 32)),
    ]
    settings = BenchmarkSettings(patterns=("unstructured", "16x1"), repeats=2, threads=1, rest=0)
    lines = break_even(settings, 0.5, layers, (0.9, 0.5))
    assert [(line.kind, line.pattern, line.precision) for line in lines] == [
        (kind, pattern, precision)
        for kind in ("linear", "lstm")
        for pattern in ("unstructured", "16x1")
        for precision in ("float32", "bfloat16", "int8")
    ]
    assert all(set(line.sparse) == {0.5, 0.9} and set(line.crossings) == {"float32", "bfloat16"} for line in lines)
    assert len(stand_in) == 24
    assert all(force for _, force in stand_in)


def test_a_layer_that_skips_zeros_crosses_where_its_time_says(monkeypatch) -> None:
    """Dense: ten calls. Sparse: thirty times the density, so it pays from 2/3 on, between 0.5 and 0.8."""

    class Fake(nn.Module):
        def __init__(self, module: nn.Linear) -> None:
            super().__init__()
            self.module = copy.deepcopy(module)
            self.calls = round(30 * float((module.weight != 0).float().mean()))

        def forward(self, inputs):
            for _ in range(self.calls):
                found = self.module(inputs)
            return found

    class Ten(nn.Linear):
        def forward(self, inputs):
            for _ in range(10):
                found = super().forward(inputs)
            return found

    def accelerate(module, precision, force):
        plain = nn.Linear(256, 256)
        plain.load_state_dict(module.state_dict())
        return Fake(plain)

    monkeypatch.setattr("audio_lottery.sparse.benchmark.own.accelerated", accelerate)
    layer = Layer("linear", lambda: Ten(256, 256), lambda frames: (1, frames, 256))
    settings = BenchmarkSettings(patterns=("unstructured",), repeats=5, threads=1, rest=0)
    line = break_even(settings, 1.0, [layer], (0.0, 0.5, 0.8, 0.9))[0]
    assert line.crossings["float32"].break_even == pytest.approx(0.65, abs=0.15)


def test_impossible_length() -> None:
    with pytest.raises(ConfigError, match="--seconds 0"):
        break_even(BenchmarkSettings(threads=1), 0.0)
