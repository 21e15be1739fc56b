"""Recognisers: safe defaults, exact round trips, a loss that adds up, and clear refusals."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCTC, pipeline

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.load import load_backbone, load_folder
from audio_lottery.models.loss import ctc_loss, per_label
from tests.conftest import TINY_MODEL
from tests.models.conftest import TINY


def state(backbone):
    return backbone.module.state_dict()


def test_weights_are_a_function_of_the_seed():
    first, again, other = (state(load_backbone(TINY, seed)) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_round_trip_keeps_every_tensor_bit_for_bit(saved):
    original = state(load_backbone(TINY, seed=3))
    for loaded in (state(load_folder(saved)), AutoModelForCTC.from_pretrained(saved).state_dict()):
        assert loaded.keys() == original.keys()
        assert all(torch.equal(loaded[name], original[name]) for name in original)


def test_safe_ctc_defaults(saved):
    for backbone in (load_backbone(TINY, seed=0), load_folder(saved)):
        config = backbone.module.config
        assert (config.ctc_loss_reduction, config.ctc_zero_infinity, config.layerdrop) == ("mean", True, 0.0)
        assert config.pad_token_id == backbone.blank == 0
        assert config.vocab_size == len(backbone.processor.tokenizer)


def test_a_saved_model_transcribes_in_a_plain_pipeline(saved):
    transcriber = pipeline("automatic-speech-recognition", model=str(saved))
    audio = torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy()
    assert isinstance(transcriber(audio)["text"], str)


def test_loss_equals_the_loss_of_transformers():
    backbone = load_backbone(TINY, seed=0)
    model = backbone.module.eval()
    audio = torch.randn(3, 16_000, generator=torch.Generator().manual_seed(0))
    labels = [torch.tensor([3, 4, 4, 5]), torch.tensor([6, 7]), torch.tensor([8])]
    padded = torch.nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100)
    with torch.no_grad():
        output = model(audio, attention_mask=torch.ones_like(audio, dtype=torch.long), labels=padded)
        frames = backbone.frames(torch.tensor([16_000] * 3))
        ours = per_label(ctc_loss(output.logits, frames, labels, backbone.blank), labels) / 3
    assert float(ours) == pytest.approx(float(output.loss), rel=1e-6)


def test_impossible_labels_count_zero_and_give_finite_gradients():
    logits = torch.zeros(2, 3, 8, requires_grad=True)
    labels = [torch.tensor([1, 1, 1, 1]), torch.tensor([2])]
    loss = per_label(ctc_loss(logits, torch.tensor([3, 3]), labels, blank=0), labels)
    loss.backward()
    alone = per_label(ctc_loss(logits[1:], torch.tensor([3]), labels[1:], blank=0), labels[1:])
    assert float(loss.detach()) == pytest.approx(float(alone.detach()))
    assert torch.isfinite(logits.grad).all()


def test_outputs_do_not_depend_on_padding_with_layer_norm(saved):
    backbone = load_folder(saved)
    assert backbone.pads_exactly
    audio = torch.randn(1, 16_000, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(audio, (0, 8_000))
    mask = torch.nn.functional.pad(torch.ones(1, 16_000, dtype=torch.long), (0, 8_000))
    with torch.no_grad():
        alone = backbone.module.eval()(audio, attention_mask=mask[:, :16_000]).logits[0]
        together = backbone.module(padded, attention_mask=mask).logits[0, : alone.shape[0]]
    assert torch.allclose(alone, together, atol=1e-4)


def test_group_norm_is_known_not_to_pad_exactly():
    config = ModelConfig(init="w2v2-mini", overrides=TINY_MODEL | {"feat_extract_norm": "group", "conv_bias": False})
    assert not load_backbone(config, seed=0).pads_exactly


def test_an_encoder_without_a_head_gets_a_seeded_one(saved, tmp_path):
    """facebook/wav2vec2-xls-r-300m is such a checkpoint: no output layer, no tokenizer."""
    for file in saved.iterdir():
        if "token" not in file.name and "vocab" not in file.name:
            (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = {k: v for k, v in load_file(saved / "model.safetensors").items() if not k.startswith("lm_head")}
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    config.update(vocab_size=99, ctc_loss_reduction="sum", architectures=["Wav2Vec2ForPreTraining"])
    (tmp_path / "config.json").write_text(json.dumps(config))
    source = ModelConfig(init=str(tmp_path))
    first, again, other = (load_backbone(source, seed, new_head=True) for seed in (1, 1, 2))
    assert first.module.lm_head.weight.shape == (30, 32)
    assert torch.equal(first.module.lm_head.weight, again.module.lm_head.weight)
    assert not torch.equal(first.module.lm_head.weight, other.module.lm_head.weight)
    encoder = "wav2vec2.encoder.layers.0.attention.k_proj.weight"
    assert torch.equal(state(first)[encoder], weights[encoder])


def test_specaugment_and_overrides_reach_the_config(saved):
    masking = SpecAugmentConfig(time_prob=0.2, time_length=7, feature_prob=0.1, feature_length=3)
    source = ModelConfig(init=str(saved), overrides={"hidden_dropout": 0.33})
    backbone = load_backbone(source, 0, specaugment=masking)
    assert backbone.masking(masking) is None, "the module masks its own hidden states"
    config = backbone.module.config
    assert (config.mask_time_prob, config.mask_time_length, config.mask_feature_prob) == (0.2, 7, 0.1)
    assert config.hidden_dropout == 0.33
    with pytest.raises(ModelError, match="hidden_droput is not a field of Wav2Vec2Config"):
        load_backbone(ModelConfig(init=str(saved), overrides={"hidden_droput": 0.1}), 0)


def test_freezing_and_random_init(saved):
    backbone = load_backbone(ModelConfig(init=str(saved), freeze_feature_encoder=True, random_init=True), seed=9)
    trained = {name for name, parameter in backbone.module.named_parameters() if parameter.requires_grad}
    assert not any("feature_extractor" in name for name in trained)
    original = state(load_folder(saved))
    assert not torch.equal(state(backbone)["lm_head.weight"], original["lm_head.weight"])


def test_what_is_not_there_is_one_line(tmp_path):
    with pytest.raises(ModelError, match="cannot be loaded") as caught:
        load_backbone(ModelConfig(init=str(tmp_path / "nothing")), 0)
    assert "\n" not in str(caught.value)
