"""What the machine could do, and what an accelerated model's parts did."""

import pytest
import torch
from torch import nn

from audio_lottery import pruning
from audio_lottery.sparse import accelerate
from audio_lottery.sparse.benchmark import Subject, machine, probe
from audio_lottery.sparse.kernels.probe import read_through
from audio_lottery.sparse.precision import PRECISIONS


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_BYTES", 1 << 20)
    monkeypatch.setattr(machine, "_TURNS", 1 << 10)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_probe(quick: None, precision: str) -> None:
    found = probe(precision)
    assert found.threads == torch.get_num_threads()
    # any CPU with vectors does a thousand million of each
    assert found.multiply_adds > 1e9
    assert found.bytes > 1e9


def test_all_is_read() -> None:
    numbers = torch.arange(1000, dtype=torch.float32)
    assert read_through(numbers.numpy()[:960].copy()) == numbers[:960].sum()


def test_a_layer_counts_its_work() -> None:
    layer = nn.Linear(64, 32, bias=False).eval()
    with torch.no_grad():
        layer.weight[:, 16:] = 0
    fast = accelerate(layer, force=True)
    parts = dict(fast.budget(torch.randn(32, 64)))
    tally = parts["linear layers"]
    assert tally.multiply_adds == 32 * (32 * 16)
    assert tally.bytes in (4 * 512 + 2 * 512, 4 * 512 + 2 * 32)
    assert parts["everything else"].multiply_adds == 0
    assert [(name, one.seconds >= 0) for name, one in parts.items()] == [(name, True) for name in parts]
    assert dict(fast.profile(torch.randn(32, 64))).keys() == parts.keys()


def test_a_model_counts_attention(subject: Subject) -> None:
    model = subject.model
    pruning.apply(pruning.prune(model, 0.2), model)
    parts = dict(accelerate(model, force=True).budget(subject.make_inputs(1.0)))
    config, frames = model.config, 49
    # queries of whole vectors, keys of the utterance; one product for the scores, one for the sums
    expected = config.num_hidden_layers * 2 * config.hidden_size * frames * 64
    assert parts["attention"].multiply_adds == expected
    assert parts["convolutions"].multiply_adds > 0
    assert parts["convolutions"].bytes > 0
    assert parts["positional convolution"].multiply_adds > 0
