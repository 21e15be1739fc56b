"""The rewind point of a bare encoder: its output layer is drawn by the seed, because every round trains it."""

import pytest
import torch
from safetensors.torch import load_file

from audio_lottery.config import ModelConfig, RunConfig, ThetaConfig
from audio_lottery.evaluation.evaluator import make_evaluator
from audio_lottery.lottery.data import RunData
from audio_lottery.lottery.methods import make_method
from audio_lottery.lottery.round import make_theta
from audio_lottery.lottery.run import Run
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.models.load import load_backbone, load_folder
from audio_lottery.processes import make_accelerator
from tests.conftest import TINY_MODEL


@pytest.mark.parametrize("seed", [1, 2])
def test_an_encoder_may_be_the_rewind_point(tmp_path, seed):
    encoder = load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), seed=5)
    encoder.module.wav2vec2.save_pretrained(tmp_path / "encoder")
    encoder.processor.feature_extractor.save_pretrained(tmp_path / "encoder")
    config = RunConfig(seed=seed, model=ModelConfig(init=str(tmp_path / "encoder")), theta=ThetaConfig(train=()))
    folder, accelerator = RunFolder(tmp_path / "run"), make_accelerator("no", None)
    data, method = RunData(None, None, None, None, None), make_method(config, folder)
    make_theta(Run(config, folder, data, accelerator, method, make_evaluator(config, accelerator)))
    theta = load_folder(folder.theta).module.state_dict()
    again = load_backbone(config.model, seed, new_head=True).module.state_dict()
    other = load_backbone(config.model, seed + 1, new_head=True).module.state_dict()
    assert all(torch.equal(tensor, theta[name]) for name, tensor in again.items())
    assert not torch.equal(other["lm_head.weight"], theta["lm_head.weight"])
    for name, tensor in load_file(tmp_path / "encoder" / "model.safetensors").items():
        assert torch.equal(tensor, theta[f"wav2vec2.{name}"])
