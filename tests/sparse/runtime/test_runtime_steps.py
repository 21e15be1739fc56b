"""One frame at a time: the same numbers as all at once."""

import pytest
import torch
from torch import nn

from audio_lottery.sparse.runtime import linear as module
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.lstm import SparseLSTM
from tests.sparse.runtime.layers import close, pruned


@pytest.mark.parametrize("kernel", ["csr", "csr_bf16", "block16x1"])
@pytest.mark.parametrize("features", [1, 50, 1700])
@pytest.mark.parametrize("activation", ["none", "relu"])
def test_few_frames(kernel, features, activation):
    layer = pruned(nn.Linear(features, 48, bias=features != 50), 0.3)
    fast = SparseLinear(layer, kernels=[kernel], activation=activation)
    for frames in (1, 2, 3):
        x = torch.randn(frames, features)
        expected = layer(x).relu() if activation == "relu" else layer(x)
        close(fast(x), expected, atol=1e-4)


def test_what_has_no_kernel_for_a_frame_runs_as_many(monkeypatch):
    layer = pruned(nn.Linear(40, 32), 0.3)
    fast, x = SparseLinear(layer, kernels=["csr"]), torch.randn(2, 40)
    monkeypatch.setattr(module, "_FRAME_KERNELS", {})
    close(fast(x), layer(x))


def test_steps_of_an_lstm():
    lstm = pruned(nn.LSTM(30, 40, 2, batch_first=True), 0.3)
    fast, x, state = SparseLSTM(lstm), torch.randn(1, 9, 30), None
    expected, _ = lstm(x)
    steps = []
    for frame in range(9):
        out, state = fast(x[:, frame : frame + 1], state)
        steps.append(out)
    close(torch.cat(steps, 1), expected)
