"""docs/extending.md: a toy of each, from outside the package."""

import typing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from transformers import AutoConfig, AutoModelForCTC

from audio_lottery import pruning, sparse
from audio_lottery.cli import main as command_line
from audio_lottery.config import ModelConfig, PruningConfig
from audio_lottery.data import corpora
from audio_lottery.data.corpora.record import CorpusKind, Layout
from audio_lottery.data.manifest import Utterance
from audio_lottery.errors import MaskError
from audio_lottery.lottery import methods, rewind
from audio_lottery.lottery.methods import Method
from audio_lottery.lottery.rewind import Rewind
from audio_lottery.lottery.search import search
from audio_lottery.models import load
from audio_lottery.models.cnn_lstm import CnnLstm, CnnLstmConfig, CnnLstmForCTC
from audio_lottery.models.load import family_of, load_backbone, load_folder
from audio_lottery.pruning import FixedPattern, Mask, PatternKind, ScoreKind
from audio_lottery.pruning.patterns import Blocks
from audio_lottery.report.page import ExtraTable, read_group, write_page
from audio_lottery.sparse.benchmark import BenchmarkSettings, compare_sparsities, runtime_names
from audio_lottery.sparse.benchmark.contestants import RUNTIMES, Runtime
from audio_lottery.sparse.benchmark.subject import wav2vec2_base
from audio_lottery.sparse.runtime import registry
from audio_lottery.sparse.runtime.modules import Runner
from audio_lottery.transcribe.formats import FORMATS
from tests.lottery.test_backbones import TINY
from tests.lottery.test_methods import mask, settings
from tests.sparse.benchmark.conftest import TINY as TINY_WAV2VEC2


def last_columns(weights, among=None, score_inputs=None):
    """A score: inputs further back count more."""
    return {
        name: torch.arange(weight.numel(), dtype=torch.float32).reshape(weight.shape)
        for name, weight in weights.items()
    }


@dataclass(frozen=True)
class Checkerboard(FixedPattern):
    """A pattern: every second weight, whatever the scores say."""

    spec: str = "checkerboard"

    @property
    def density(self) -> float:
        return 0.5

    def kept(self, weights: int) -> int:
        return -(-weights // 2)

    def select(self, name, scores, among=None):
        self.check(name, scores.shape)
        return (torch.arange(scores.numel()) % 2 == 0).reshape(scores.shape)

    def check(self, name, shape) -> None:
        if not len(shape):
            raise MaskError(f"'{name}' is one number")


def squares(spec: str) -> Blocks | None:
    """A pattern with a size: square:2 is block:2x2."""
    word, _, size = spec.partition(":")
    return Blocks(spec, int(size), int(size)) if word == "square" else None


def read_folder(root: Path, split: str):
    """A corpus: a folder a split, the transcript of every recording in its name."""
    for file in sorted((root / split).glob("*.wav")):
        seconds = soundfile.info(file).duration
        text = file.stem.replace("_", " ")
        yield Utterance(file.stem, str(file), 0.0, seconds, text, "nobody", seconds, f"named_files/{split}")


def find_folder(folder: Path) -> Layout:
    splits = sorted(path.name for path in folder.iterdir())
    return Layout(folder, splits, splits)


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


def test_a_pattern_from_outside(monkeypatch, tiny_corpus, tmp_path):
    monkeypatch.setitem(
        pruning.PATTERNS, "checkerboard", PatternKind("checkerboard", {"checkerboard": Checkerboard()}.get)
    )
    monkeypatch.setitem(pruning.PATTERNS, "square", PatternKind("square:SIZE", squares))
    model = torch.nn.Linear(8, 8)
    mask = pruning.prune(model, 0.5, pattern="checkerboard")
    assert torch.equal(pruning.random_like(mask, 1, "checkerboard")["weight"], mask["weight"])
    with pytest.raises(MaskError, match=r"pattern 'checkerboard' has density 0\.5 and 0\.3 was asked"):
        pruning.prune(model, 0.3, pattern="checkerboard")
    square = replace(PruningConfig(), pattern="square:2")
    search(settings(tiny_corpus, tmp_path / "run", square, model=TINY["cnn_lstm"]))
    for name, tensor in Mask.load(tmp_path / "run" / "round_02" / "mask.safetensors").items():
        pruning.parse_pattern("block:2x2").whole(name, tensor)
    with pytest.raises(MaskError, match=r"patterns are unstructured, .*checkerboard, square:SIZE"):
        pruning.parse_pattern("squares")


def test_a_corpus_from_outside(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(corpora.CORPORA, "named_files", CorpusKind("a toy", read_folder, find_folder))
    (tmp_path / "corpus" / "dev").mkdir(parents=True)
    for text in ("yes_no", "no"):
        soundfile.write(tmp_path / "corpus" / "dev" / f"{text}.wav", np.zeros(16_000), 16_000)
    assert corpora.read_corpus("named_files", tmp_path / "corpus", "dev")["text"] == ["no", "yes no"]
    assert (
        command_line(["prepare", "named-files", "--source", str(tmp_path / "corpus"), "--out", str(tmp_path / "out")])
        == 0
    )
    assert "{corpus: prepared" in capsys.readouterr().out


def test_a_contestant_from_outside():
    plain = Runtime("plain", "float32", (), lambda model, inputs, threads, folder: model, any_length=True)
    quick = BenchmarkSettings((0.5,), (0.0,), ("unstructured",), ("plain",), repeats=1, threads=1, rest=0.0)
    RUNTIMES.append(plain)
    try:
        assert {"plain", "audio_lottery"} <= set(runtime_names())
        outcome = compare_sparsities(wav2vec2_base(0, **TINY_WAV2VEC2), quick)
    finally:
        RUNTIMES.remove(plain)
    assert "plain" in {row["runtime"] for row in outcome.rows}


class Scale(torch.nn.Module):
    """A layer that no runner knows: a matrix that is multiplied with the input number by number."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = torch.nn.Parameter(torch.tensor([[1.0, 0.0], [0.0, 2.0]]))

    def forward(self, x):
        return x * self.matrix


class SparseScale(Runner):
    """A runner: keeps what is not zero."""

    kind, kernel = "scale", "toy"

    def __init__(self, module: Scale, precision: str = "float32") -> None:
        super().__init__()
        self.entries = module.matrix.detach().to_sparse()
        self.kept, self.weights, self.macs_per_frame = self.entries.values().numel(), module.matrix.numel(), 4

    @classmethod
    def claims(cls, module) -> bool:
        return type(module) is Scale

    @classmethod
    def misfit(cls, module) -> str:
        return "no 2×2 matrix: it runs as it is" if module.matrix.shape != (2, 2) else ""

    @classmethod
    def trial_input(cls, module):
        return torch.randn(module.matrix.shape)

    def forward(self, x):
        return (self.entries * x).to_dense()


def test_a_runner_from_outside(monkeypatch):
    monkeypatch.setattr(registry, "RUNNERS", [*registry.RUNNERS, SparseScale])
    model = torch.nn.Sequential(Scale(), torch.nn.ReLU()).eval()
    fast, x = sparse.accelerate(model, force=True), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert isinstance(fast, torch.nn.Sequential)
    assert torch.equal(fast(x), model(x))
    assert [(entry.kind, entry.kernel, entry.density) for entry in fast.plan] == [("scale", "toy", 0.5)]
    model[0].matrix = torch.nn.Parameter(torch.eye(3))
    assert sparse.accelerate(model, force=True).plan[0].note == "no 2×2 matrix: it runs as it is"


def test_a_table_on_the_report_from_outside(tiny_corpus, tmp_path):
    search(settings(tiny_corpus, tmp_path / "run", PruningConfig(), model=TINY["cnn_lstm"]))
    table = ExtraTable("Moods <of> layers", ["layer", "mood"], [["conv", "& fine"]])
    write_page([read_group("toy", [tmp_path / "run"])], tmp_path / "page.html", extras=[table])
    page = (tmp_path / "page.html").read_text()
    assert "Moods &lt;of&gt; layers" in page
    assert "&amp; fine" in page


def test_a_format_of_transcripts_from_outside(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(FORMATS, "length", (".len", lambda transcript: f"{transcript.duration:g} s\n"))
    load_backbone(TINY["cnn_lstm"], 0).save(tmp_path / "model")
    soundfile.write(tmp_path / "a.wav", np.zeros(8_000), 16_000)
    assert command_line(["transcribe", str(tmp_path / "model"), str(tmp_path / "a.wav"), "--format", "length"]) == 0
    assert capsys.readouterr().out == "0.5 s\n"


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
