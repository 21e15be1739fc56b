"""docs/extending.md: a toy of each, from outside the package."""

import typing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCTC

from audio_lottery import pruning
from audio_lottery.config import ModelConfig, PruningConfig
from audio_lottery.lottery import methods, rewind
from audio_lottery.lottery.methods import Method
from audio_lottery.lottery.rewind import Rewind
from audio_lottery.lottery.search import search
from audio_lottery.models import load
from audio_lottery.models.cnn_lstm import CnnLstm, CnnLstmConfig, CnnLstmForCTC
from audio_lottery.models.load import family_of, load_folder
from audio_lottery.pruning import Mask, ScoreKind
from tests.lottery.test_backbones import TINY
from tests.lottery.test_methods import mask, settings


def last_columns(weights, among=None, score_inputs=None):
    """A score: inputs further back count more."""
    return {
        name: torch.arange(weight.numel(), dtype=torch.float32).reshape(weight.shape)
        for name, weight in weights.items()
    }


@dataclass(frozen=True)
class FromTheta(Method):
    """A method: every round is pruned from θ, within the mask of the round before."""

    starts_at_theta = True

    def among(self, number: int) -> Mask:
        return Mask.load(self.folder.round(number - 1) / "mask.safetensors")


@dataclass(frozen=True)
class Negated(Rewind):
    """A rewinding: to the values of θ with their signs turned."""

    def start(self, number: int, mask: Mask, trained: Path):
        backbone = super().start(number, mask, trained)
        if number > 0:
            for name, parameter in backbone.module.named_parameters():
                if name in mask:
                    parameter.data.neg_()
        return backbone


class ToyConfig(CnnLstmConfig):
    model_type = "toy_ctc"


class ToyForCTC(CnnLstmForCTC):
    config_class = ToyConfig


class Toy(CnnLstm):
    """A family: another model type, with a preset of its own."""

    family = "toy"
    presets = {"toy-mini": {"model_type": "toy_ctc", "conv_channels": 4, "hidden_size": 16, "num_hidden_layers": 1}}  # noqa: RUF012

    @classmethod
    def claims(cls, architecture) -> bool:
        return isinstance(architecture, ToyConfig)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(pruning.SCORES, "last", ScoreKind(last_columns))
    monkeypatch.setitem(methods.METHODS, "from_theta", FromTheta)
    monkeypatch.setitem(rewind.REWINDS, "negated", Negated)
    monkeypatch.setattr(load, "FAMILIES", {"toy": Toy, **load.FAMILIES})
    AutoConfig.register("toy_ctc", ToyConfig, exist_ok=True)
    AutoModelForCTC.register(ToyConfig, ToyForCTC, exist_ok=True)


@pytest.mark.usefixtures("registered")
@pytest.mark.parametrize(
    "change",
    [
        {"score": "last"},
        {"method": "from_theta"},
        {"rewind": "negated"},
        {"score": "last", "method": "from_theta", "pattern": "rows"},
    ],
)
def test_a_toy_of_each_is_searched_with(tiny_corpus, tmp_path, change):
    search(settings(tiny_corpus, tmp_path / "run", replace(PruningConfig(), **change), model=TINY["cnn_lstm"]))
    assert mask(tmp_path / "run", 2).density() == pytest.approx(0.64, abs=0.05)
    assert mask(tmp_path / "run", 2).is_subset_of(mask(tmp_path / "run", 1))


@pytest.mark.usefixtures("registered")
def test_a_family_from_outside(tiny_corpus, tmp_path):
    search(settings(tiny_corpus, tmp_path / "run", PruningConfig(), model=ModelConfig(init="toy-mini")))
    folder = tmp_path / "run" / "round_02"
    assert family_of(folder) is Toy
    assert type(load_folder(folder).module) is ToyForCTC


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("method", methods.METHODS),
        ("score", pruning.SCORES),
        ("allocation", pruning.ALLOCATIONS),
        ("rewind", rewind.REWINDS),
        ("control", {*methods.CONTROLS, "dense"}),
    ],
)
def test_settings_name_what_the_registries_hold(field, names):
    hints = typing.get_type_hints(PruningConfig)
    assert set(typing.get_args(hints[field])) == set(names)
    described = PruningConfig.__doc__.split(f"        {field}: ")[1].split("\n        ")[0]
    text = " ".join(PruningConfig.__doc__.split(f"        {field}: ")[1].split())
    assert all(name in text for name in names), described
