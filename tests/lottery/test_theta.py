"""The rewind point of a bare encoder: its output layer is drawn by the seed, because every round trains it."""

import pytest
import torch
from audio_lottery.training.processes import make_accelerator
from safetensors.torch import load_file

from audio_lottery.config import ModelConfig, RunConfig, ThetaConfig
from audio_lottery.lottery.data import RunData
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.lottery.search import make_theta
from audio_lottery.models.load import load_folder, load_recogniser
from tests.conftest import TINY_MODEL


@pytest.mark.parametrize("seed", [1, 2])
def test_an_encoder_may_be_the_rewind_point(tmp_path, seed):
    encoder = load_recogniser(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), seed=5)
    encoder.model.wav2vec2.save_pretrained(tmp_path / "encoder")
    encoder.processor.feature_extractor.save_pretrained(tmp_path / "encoder")
    config = RunConfig(seed=seed, model=ModelConfig(init=str(tmp_path / "encoder")), theta=ThetaConfig(train=()))
    folder = RunFolder(tmp_path / "run")
    make_theta(config, folder, RunData(None, None, None, None, None), make_accelerator("no", None))
    theta = load_folder(folder.theta).model.state_dict()
    again = load_recogniser(config.model, seed, new_head=True).model.state_dict()
    other = load_recogniser(config.model, seed + 1, new_head=True).model.state_dict()
    assert all(torch.equal(tensor, theta[name]) for name, tensor in again.items())
    assert not torch.equal(other["lm_head.weight"], theta["lm_head.weight"])
    for name, tensor in load_file(tmp_path / "encoder" / "model.safetensors").items():
        assert torch.equal(tensor, theta[f"wav2vec2.{name}"])
