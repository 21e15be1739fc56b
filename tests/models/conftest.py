"""A tiny saved CTC model, and copies of it that may be damaged."""

import shutil

import pytest

from audio_lottery.config import ModelConfig
from audio_lottery.models.load import load_backbone
from tests.conftest import TINY_MODEL

TINY = ModelConfig(init="w2v2-mini", overrides=TINY_MODEL)


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    load_backbone(TINY, seed=3).save(folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    return shutil.copytree(saved, tmp_path / "model")
