"""Rewinding: survivors equal θ bit for bit, everything else is +0.0, in memory and on disk."""

import pytest
import torch
from safetensors.torch import load_file

from audio_lottery.config import ModelConfig
from audio_lottery.errors import MaskError
from audio_lottery.lottery.rewind import Rewind
from audio_lottery.models.load import load_backbone
from audio_lottery.pruning import Mask, exact_count, find_scope, global_magnitude
from tests.conftest import TINY_MODEL


@pytest.fixture(scope="module")
def theta(tmp_path_factory):
    folder = tmp_path_factory.mktemp("theta")
    load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), seed=1).save(folder)
    return folder


@pytest.mark.parametrize("number", [0, 1, 5, 20])
def test_round_k_weights_are_mask_times_theta(theta, tmp_path, number):
    trained = load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), seed=2).module
    dense = Mask.dense(trained, find_scope(trained, exclude=[r"^lm_head\."]).names)
    mask = global_magnitude(trained, 0.8**number, among=dense)
    assert mask.kept == exact_count(0.8**number, dense.prunable)
    backbone = Rewind(theta, ModelConfig()).start(number, mask, theta)
    backbone.save(tmp_path)
    original = load_file(theta / "model.safetensors")
    for weights in (backbone.module.state_dict(), load_file(tmp_path / "model.safetensors")):
        for name, value in original.items():
            expected = torch.where(mask[name], value, torch.zeros(())) if name in mask else value
            assert torch.equal(weights[name].view(torch.int32), expected.view(torch.int32)), name


def test_a_mask_of_another_model_is_refused(theta):
    with pytest.raises(MaskError, match=r"'nothing\.weight' is not a parameter"):
        Rewind(theta, ModelConfig()).start(1, Mask({"nothing.weight": torch.ones(2, dtype=torch.bool)}), theta)
