"""A pruned backbone of 30 k parameters, and the folder it is saved as."""

import pytest
import torch

from audio_lottery.config import ModelConfig
from audio_lottery.models.load import load_backbone
from audio_lottery.pruning import apply, find_scope, prune
from audio_lottery.sparse import format as sparse_format
from tests.conftest import TINY_MODEL


def tiny_backbone(seed=3, density=0.1):
    """w2v2-mini made tiny, pruned to ``density``."""
    backbone = load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), seed)
    names = find_scope(backbone.module).names
    assert names
    apply(prune(backbone.module, density), backbone.module)
    return backbone


@pytest.fixture(scope="module")
def backbone():
    """Not to be changed."""
    return tiny_backbone()


@pytest.fixture(scope="module")
def saved(backbone, tmp_path_factory):
    """(what `save` returned, the folder), exact."""
    folder = tmp_path_factory.mktemp("sparse") / "model"
    return sparse_format.save(backbone.module, folder, processor=backbone.processor), folder


def equal(one, other):
    """Whether two state dicts are the same, NaN and -0.0 included."""
    return (
        one.keys() == other.keys()
        and all(
            t.dtype == other[name].dtype and t.numpy().tobytes() == other[name].numpy().tobytes()
            for name, t in one.items()
        )
        and all(isinstance(t, torch.Tensor) for t in one.values())
    )
