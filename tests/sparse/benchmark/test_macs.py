"""Multiply-adds against numbers worked out by hand, and where the time goes."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from audio_lottery.sparse.benchmark import PartBudget, Subject, budget_ours, count_macs, profile, profile_modules
from audio_lottery.sparse.benchmark.module_kinds import kind_of
from audio_lottery.sparse.benchmark.own import pruned


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (nn.Linear(8, 4), (1, 10, 8), 8 * 4 * 10),
        (nn.Linear(8, 4, bias=False), (3, 10, 8), 8 * 4 * 30),
        # (11 - 3) // 2 + 1 = 5 frames; 8 outputs of 3 inputs and 3 taps each
        (nn.Conv1d(6, 8, 3, stride=2, groups=2), (1, 6, 11), 8 * 3 * 3 * 5),
        (nn.LSTM(8, 16, batch_first=True), (1, 7, 8), 7 * 4 * 16 * (8 + 16)),
        (nn.LSTM(8, 16, bidirectional=True, batch_first=True), (1, 7, 8), 2 * 7 * 4 * 16 * (8 + 16)),
    ],
)
def test_dense_and_effective_by_hand(module: nn.Module, shape: tuple[int, ...], macs: int) -> None:
    model = nn.Sequential(module)
    (count,) = count_macs(model, torch.randn(shape))
    assert (count.dense, count.effective) == (macs, macs)
    for name, weight in module.named_parameters():
        if name.startswith("weight"):
            weight.data.reshape(-1)[::2] = 0
    (count,) = count_macs(model, torch.randn(shape))
    assert (count.dense, count.effective) == (macs, macs // 2)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_is_counted_and_not_pruned(subject: Subject, attention: str) -> None:
    inputs = subject.make_inputs(0.5)
    model = pruned(subject.model, "unstructured", 0.75)
    model.set_attn_implementation(attention)
    counts = {count.kind: count for count in count_macs(subject.logits(model), inputs)}
    frames = subject.model(inputs).logits.shape[1]
    assert counts["attention itself"].dense == 2 * 2 * frames**2 * 32  # layers × (QKᵀ and weighted sum)
    assert counts["attention itself"].effective == counts["attention itself"].dense
    assert counts["attention projections"].dense == 2 * 4 * 32 * 32 * frames
    assert counts["attention projections"].effective == 2 * 4 * 32 * 32 * frames // 4
    assert counts["feed-forward"].dense == 2 * 2 * 32 * 64 * frames
    assert counts["head"].dense == 32 * 32 * frames
    assert counts["positional convolution"].effective == counts["positional convolution"].dense > 0
    # samples 8000 → 1599 frames after ten taps at stride 5
    assert counts["feature extractor conv 0"].dense == 16 * 1 * 10 * 1599


@pytest.mark.parametrize(
    ("name", "module", "kind"),
    [
        ("model.wav2vec2.feature_extractor.conv_layers.3.conv", nn.Conv1d(4, 4, 3), "feature extractor conv 3"),
        ("model.wav2vec2.feature_extractor.conv_layers.0.layer_norm", nn.GroupNorm(2, 4), "group norm"),
        ("model.wav2vec2.encoder.pos_conv_embed.conv", nn.Conv1d(4, 4, 3), "positional convolution"),
        ("model.wav2vec2.feature_projection.projection", nn.Linear(4, 4), "feature projection"),
        ("model.wav2vec2.encoder.layers.1.attention.out_proj", nn.Linear(4, 4), "attention projections"),
        ("wav2vec2_conformer.encoder.layers.1.self_attn.linear_q", nn.Linear(4, 4), "attention projections"),
        ("wav2vec2_conformer.encoder.layers.1.conv_module.pointwise_conv1", nn.Conv1d(4, 4, 1), "convolution"),
        ("model.wav2vec2.encoder.layers.1.feed_forward.output_dense", nn.Linear(4, 4), "feed-forward"),
        ("wav2vec2_conformer.encoder.layers.1.ffn1.intermediate_dense", nn.Linear(4, 4), "feed-forward"),
        ("model.lm_head", nn.Linear(4, 4), "head"),
        ("lm_head", nn.Linear(4, 4), "head"),
        ("encoder.layer_norm", nn.LayerNorm(4), "layer norm"),
        ("activation", nn.GELU(), "GELU"),
        ("rnn", nn.LSTM(4, 4), "LSTM"),
        ("", nn.Sequential(), "other"),
        ("something", nn.Linear(4, 4), "linear"),
    ],
)
def test_kinds(name: str, module: nn.Module, kind: str) -> None:
    assert kind_of(name, module) == kind


class Works(nn.Module):
    """Lets a clock advance, and runs the layer inside."""

    def __init__(self, clock: list[float], seconds: float, inside: nn.Module | None = None) -> None:
        super().__init__()
        self.clock, self.seconds, self.inside = clock, seconds, inside

    def forward(self, inputs):
        self.clock[0] += self.seconds
        return inputs if self.inside is None else self.inside(inputs)


class WorksAttention(Works):
    pass


def test_profile_is_exclusive_and_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(profile, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    model = Works(clock, 2.0, WorksAttention(clock, 8.0, nn.Sequential(nn.GELU(), Works(clock, 1.0))))
    assert profile_modules(model, torch.ones(2), repeats=3) == {"attention itself": 8.0, "other": 3.0, "GELU": 0.0}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_our_own_profile_is_asked_where_there_is_one() -> None:
    times = iter([9.0, 0.5, 0.25, 1.0])

    def own(inputs):
        return [
            ("pack", SimpleNamespace(seconds=0.25, multiply_adds=0, bytes=0)),
            ("linear", SimpleNamespace(seconds=next(times), multiply_adds=7, bytes=3)),
        ]

    found = budget_ours(SimpleNamespace(budget=own), torch.ones(1), repeats=3)
    assert found == [PartBudget("linear", 0.5, 7, 3), PartBudget("pack", 0.25, 0, 0)]
    assert budget_ours(nn.Linear(2, 2), torch.ones(1, 2)) is None
