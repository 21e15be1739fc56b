"""Every architecture of transformers' CTC mapping loads: as a bare encoder, as a CTC model, from a pretraining."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import MODEL_FOR_CTC_MAPPING, MODEL_FOR_PRETRAINING_MAPPING, MODEL_MAPPING

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.characters import build_processor
from audio_lottery.models.load import load_backbone, load_trained
from tests.models.families import FAMILIES, feature_extractor, tiny_config

# The encoder of these is a model of its own type, which transformers puts under no new output layer.
COMPOSED = {"granite_speech5_ctc", "lasr_ctc", "parakeet_ctc"}
ENCODERS = [family for family in FAMILIES if family not in COMPOSED]
PRETRAINED = [family for family in FAMILIES if type(tiny_config(family)) in MODEL_FOR_PRETRAINING_MAPPING]


def ctc_model(family):
    torch.manual_seed(0)
    config = tiny_config(family)
    return MODEL_FOR_CTC_MAPPING[type(config)](config)


def save(model, family, folder):
    model.save_pretrained(folder)
    feature_extractor(family).save_pretrained(folder)
    return ModelConfig(init=str(folder), characters="abcd")


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def logits(backbone):
    """Of half a second of noise that goes through the backbone's own feature extractor."""
    audio = torch.randn(8000, generator=torch.Generator().manual_seed(0)).numpy()
    inputs = backbone.processor.feature_extractor([audio], sampling_rate=16_000, return_tensors="pt")
    with torch.no_grad():
        return backbone.module.eval()(**inputs).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_a_ctc_model_loads_bit_for_bit(family, tmp_path):
    model = ctc_model(family)
    source = save(model, family, tmp_path)
    build_processor("abcdefghijklmnopqrstuvwxyz'").tokenizer.save_pretrained(tmp_path)
    backbone = load_trained(source)
    assert same(model.state_dict(), backbone.module.state_dict())
    assert backbone.blank == 0
    assert logits(backbone).shape[-1] == 30


@pytest.mark.parametrize("family", ENCODERS)
def test_a_bare_encoder_gets_a_seeded_output_layer(family, tmp_path):
    encoder = getattr(ctc_model(family), ctc_model(family).base_model_prefix)
    assert type(encoder) is MODEL_MAPPING[type(encoder.config)]
    source = save(encoder, family, tmp_path / "encoder")
    with pytest.raises(ModelError, match=r"not a CTC model: its output layer would be random; fine-tune it first$"):
        load_trained(source)
    first, again, other = (load_backbone(source, seed, new_head=True) for seed in (1, 1, 2))
    assert same(first.module.state_dict(), again.module.state_dict())
    assert not same(first.module.state_dict(), other.module.state_dict())
    assert same(encoder.state_dict(), getattr(first.module, first.module.base_model_prefix).state_dict())
    assert logits(first).shape[-1] == 7
    first.save(tmp_path / "saved")
    loaded = load_trained(ModelConfig(init=str(tmp_path / "saved")))
    assert same(loaded.module.state_dict(), first.module.state_dict())
    assert loaded.blank == first.blank == 0


@pytest.mark.parametrize("family", sorted(COMPOSED))
def test_the_encoder_of_a_composed_model_is_refused_by_its_type(family, tmp_path):
    source = save(ctc_model(family).encoder, family, tmp_path)
    line = rf"is a model of type {family.removesuffix('_ctc')}_encoder, which transformers has no CTC model for"
    with pytest.raises(ModelError, match=line):
        load_backbone(source, 0, new_head=True)


@pytest.mark.parametrize("family", PRETRAINED)
def test_a_pretrained_model_gives_its_encoder(family, tmp_path):
    config = tiny_config(family)
    pretrained = MODEL_FOR_PRETRAINING_MAPPING[type(config)](config)
    backbone = load_backbone(save(pretrained, family, tmp_path), 0, new_head=True)
    prefix = backbone.module.base_model_prefix
    assert same(getattr(pretrained, prefix).state_dict(), getattr(backbone.module, prefix).state_dict())


@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "granite_speech5_ctc"])
def test_the_output_layer_is_drawn_anew_when_asked(family, tmp_path):
    model = ctc_model(family)
    source = save(model, family, tmp_path / "model")
    with pytest.raises(ModelError, match="is a CTC model without a tokenizer"):
        load_backbone(source, 0, new_head=True)
    source.reset_head = True
    first, other = (load_backbone(source, seed).module.state_dict() for seed in (1, 2))
    differ = {name for name, tensor in first.items() if not torch.equal(tensor, other[name])}
    assert differ in ({"lm_head.weight"}, {"ctc_head.weight"}, {"ctc_head.weight", "ctc_head.bias"})
    assert all(torch.equal(t, first[name]) for name, t in model.state_dict().items() if "_head" not in name)


def test_an_output_layer_that_is_also_inside_the_encoder_is_not_drawn_anew(tmp_path):
    source = save(ctc_model("granite_speech5_ctc"), "granite_speech5_ctc", tmp_path)
    source.reset_head = True
    with pytest.raises(ModelError, match=r"do not fit .*: encoder\.out\.bias has shape \[30\], and \[7\] in"):
        load_backbone(source, 0)


OLD_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


@pytest.mark.parametrize("family", [f for f in ENCODERS if f not in ("data2vec-audio", "omniasr_ctc", "wav2vec2-bert")])
def test_names_of_older_releases_load(family, tmp_path):
    """Most checkpoints on the Hub were saved before torch renamed the parts of weight norm."""
    model = ctc_model(family)
    source = save(model, family, tmp_path)
    build_processor("abcdefghijklmnopqrstuvwxyz'").tokenizer.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    for new, old in OLD_NAMES.items():
        weights = {name.replace(new, old): tensor for name, tensor in weights.items()}
    assert any(name.endswith("weight_g") for name in weights)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    assert same(model.state_dict(), load_trained(source).module.state_dict())
