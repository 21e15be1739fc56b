"""A wav2vec2 that runs in milliseconds, and a stand-in for `audio_lottery.sparse.accelerate`."""

import copy
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from torch import nn

from audio_lottery.sparse.benchmark import Subject, wav2vec2_base

TINY = {
    "conv_dim": [16] * 7,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}


@pytest.fixture(scope="module")
def subject() -> Subject:
    return wav2vec2_base(0, **TINY)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """`accelerate` replaced by a copy that keeps its contract; the list records (precision, force) of every call."""
    calls: list[tuple[str, bool]] = []

    def accelerate(model: nn.Module, precision: str, force: bool = False) -> nn.Module:
        calls.append((precision, force))
        fast = copy.deepcopy(model)
        fast.plan = [SimpleNamespace(kernel="csr"), SimpleNamespace(kernel="dense"), SimpleNamespace(kernel="csr")]
        return fast

    monkeypatch.setattr("audio_lottery.sparse.benchmark.own.accelerated", accelerate)
    return calls


def broken(change: Callable) -> Callable[[nn.Module, str], nn.Module]:
    """An `accelerate` whose models return ``change(logits)``."""

    class Broken(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, **inputs):
            return SimpleNamespace(logits=change(self.model(**inputs).logits))

    return lambda model, precision, force=False: Broken(copy.deepcopy(model))
