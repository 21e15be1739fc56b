"""What padding does to a model and how short an utterance may be: found out by trial, and nothing is left changed."""

import random

import numpy as np
import pytest
import torch
from transformers import Wav2Vec2FeatureExtractor

from audio_lottery.config import ModelConfig
from audio_lottery.data.features import FeatureExtraction
from audio_lottery.errors import ModelError
from audio_lottery.models.load import load_backbone
from audio_lottery.models.padding import shortest_audio
from tests.conftest import TINY_MODEL
from tests.models.architectures import ARCHITECTURES, INSTALLED, every_architecture

TINY = ModelConfig(init="w2v2-mini", overrides=TINY_MODEL)


def row_of(name: str, **config):
    """The first row of an architecture whose configuration has these fields."""
    return next(row for row in ARCHITECTURES if row.name == name and config.items() <= row.config.items())


def test_the_table_has_every_architecture_of_the_installed_transformers():
    assert {row.name for row in ARCHITECTURES} == INSTALLED


@every_architecture
def test_the_trial_of_every_architecture(row):
    backbone = row.backbone()
    assert (backbone.pads_exactly, backbone.shortest) == (row.exact, row.shortest)


# the adapter of Wav2Vec2 draws from numpy's generator in evaluation too
@pytest.mark.parametrize("config", [{"do_stable_layer_norm": True}, {"add_adapter": True}])
def test_nothing_is_left_changed(config):
    backbone = row_of("wav2vec2", **config).backbone()
    model = backbone.module.train()
    model.wav2vec2.feature_extractor.eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    generators = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())
    tried = backbone.padding
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert np.random.get_state()[1].tolist() == generators[1]
    assert random.getstate() == generators[2]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert backbone.padding is tried, "tried once"
    torch.manual_seed(1)
    assert type(backbone)(model, backbone.processor).padding == tried


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_outputs_that_show_nothing_prove_nothing(value):
    backbone = load_backbone(TINY, seed=0)
    torch.nn.init.constant_(backbone.module.lm_head.weight, value)
    assert not backbone.pads_exactly


@pytest.mark.parametrize(
    ("name", "config", "keeps"),
    [
        ("wav2vec2", {}, False),
        ("wav2vec2-conformer", {}, False),
        ("wav2vec2-conformer", {"position_embeddings_type": "rotary"}, True),
    ],
)
def test_modules_that_remember_a_pass_are_found(name, config, keeps):
    assert row_of(name, **config).backbone().padding.keeps_state == keeps


@pytest.mark.parametrize(
    ("name", "frames"),
    [
        ("wav2vec2", {0: 0, 1: 0, 5: 0, 80: 0, 399: 0, 400: 1, 719: 1, 720: 2, 16_000: 49}),
        ("sew", {0: 0, 80: 0, 400: 0, 719: 0, 720: 2, 16_000: 49}),
        ("omniasr_ctc", {0: 0, 80: 0, 399: 0, 400: 1, 16_000: 49}),
    ],
)
def test_frames_of_few_samples(name, frames):
    if name not in INSTALLED:
        pytest.skip(f"this transformers has no {name}")
    backbone = row_of(name).backbone()
    assert {samples: int(backbone.frames(torch.tensor(samples))) for samples in frames} == frames
    assert backbone.frames(torch.tensor(list(frames))).tolist() == list(frames.values())


def test_a_model_that_gives_nothing_for_a_second_is_refused():
    backbone = load_backbone(
        ModelConfig(init="w2v2-mini", overrides=TINY_MODEL | {"conv_kernel": [16_001, 10, 8, 4]}), seed=0
    )
    with pytest.raises(ModelError, match=r"Wav2Vec2ForCTC and Wav2Vec2FeatureExtractor give no output for a second"):
        backbone.frames(torch.tensor(16_000))


def test_an_extractor_that_gives_nan_is_refused():
    class Broken(Wav2Vec2FeatureExtractor):
        def __call__(self, *args, **kwargs):
            features = super().__call__(*args, **kwargs)
            return features | {"input_values": features["input_values"] * float("nan")}

    model = load_backbone(TINY, seed=0).module
    with pytest.raises(ModelError, match="Broken give no output"):
        shortest_audio(model, FeatureExtraction(Broken()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("norm", ["layer", "group"])
def test_the_trial_runs_in_the_models_own_precision(dtype, norm):
    overrides = TINY_MODEL | {"feat_extract_norm": norm, "conv_bias": norm == "layer"}
    backbone = load_backbone(ModelConfig(init="w2v2-mini", overrides=overrides), seed=0)
    backbone.module.to(dtype)
    if norm == "group":
        assert not backbone.pads_exactly
    elif dtype == torch.float64:
        assert backbone.pads_exactly  # rounding in half precision may or may not look like a leak
    assert backbone.module.dtype == dtype
