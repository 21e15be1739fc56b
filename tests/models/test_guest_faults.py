"""Bad input, whatever the family: refused or left out, in one line, and never a number made of it."""

import json
import re

import pytest
import torch
from safetensors.torch import load_file, save_file

from audio_lottery.errors import AudioLotteryError, ModelError
from audio_lottery.models.load import load_backbone, load_folder
from tests.lottery.test_backbones import TINY

CTC = ("cnn_lstm", "conformer")


@pytest.fixture(scope="module", params=TINY)
def backbone(request):
    made = load_backbone(TINY[request.param], seed=1)
    made.module.eval()
    return made


@pytest.fixture
def folder(backbone, tmp_path):
    backbone.save(tmp_path / "model")
    return tmp_path / "model"


def test_audio_too_short_for_a_frame_is_known_before_the_model_sees_it(backbone):
    short = backbone.shortest - 1
    assert backbone.frames(torch.tensor([short, backbone.shortest])).tolist() == [0, 1]
    assert not backbone.can_align([5], short)
    inputs = backbone.features([torch.randn(backbone.shortest, generator=torch.Generator().manual_seed(0)).numpy()])
    with torch.no_grad():
        emission = backbone.emit(inputs, torch.tensor([backbone.shortest]))
    assert emission.values.float().isfinite().all(), "the shortest that is let in gives numbers"


@pytest.mark.parametrize("family", CTC)
def test_more_labels_than_frames_cannot_be_aligned(family):
    backbone = load_backbone(TINY[family], seed=1)
    samples = 16_000
    frames = int(backbone.frames(torch.tensor(samples)))
    assert backbone.can_align([3, 4] * (frames // 2), samples)
    assert not backbone.can_align([3, 4] * (frames // 2 + 1), samples)
    assert not backbone.can_align([3] * frames, samples), "a repeated label needs a blank between"


def test_features_that_are_not_numbers_give_no_text(backbone):
    inputs = backbone.features([torch.randn(16_000, generator=torch.Generator().manual_seed(0)).numpy()])
    name = backbone.module.main_input_name
    inputs[name] = torch.full_like(inputs[name], torch.nan)
    with torch.no_grad(), pytest.raises(ModelError, match=r"not a number|NaN"):
        backbone.search(backbone.emit(inputs, torch.tensor([16_000])))


@pytest.mark.parametrize("family", CTC)
def test_a_tokenizer_that_the_output_layer_is_too_small_for(family, tmp_path):
    backbone = load_backbone(TINY[family], seed=1)
    backbone.save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    heads = [name for name in weights if any(re.search(head, name) for head in backbone.heads)]
    assert heads
    for name in heads:
        weights[name] = weights[name][:-5].clone()
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    config = json.loads((tmp_path / "config.json").read_text())
    outputs = config["vocab_size"] - 5
    (tmp_path / "config.json").write_text(json.dumps(config | {"vocab_size": outputs}))
    with pytest.raises(AudioLotteryError, match=rf"\b{outputs}\b"):
        load_folder(tmp_path)


@pytest.mark.parametrize("model_type", ["bert", "speech_to_text", "no_such_model"])
def test_a_checkpoint_of_a_family_that_nobody_claims(folder, model_type):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    with pytest.raises(ModelError) as caught:
        load_folder(folder)
    assert model_type in str(caught.value)
    assert "\n" not in str(caught.value)
