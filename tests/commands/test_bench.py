"""``audio-lottery bench`` and the script beside it, end to end on tiny models."""

import copy
import json
import runpy
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from audio_lottery import pruning
from audio_lottery.commands import bench, compress
from audio_lottery.config import ModelConfig
from audio_lottery.errors import ConfigError, ModelError
from audio_lottery.models.load import load_backbone
from audio_lottery.sparse.benchmark import wav2vec2_base
from tests.conftest import TINY_MODEL
from tests.sparse.benchmark.conftest import TINY

FIELDS = ["subject", "runtime", "precision", "pattern", "sparsity", "audio_seconds", "median_s", "min_s", "max_s"]
QUICK = ["--seconds", "0.5", "--repeats", "1", "--threads", "1", "--runtimes", "torch", "audio_lottery"]
SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "benchmark_inference.py"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    def accelerate(model, precision, force=False):
        fast = copy.deepcopy(model)
        fast.plan = [SimpleNamespace(kernel="csr")]
        fast.budget = lambda inputs: [("kernels", SimpleNamespace(seconds=0.002, multiply_adds=10**6, bytes=1000))]
        return fast

    for place in ("audio_lottery.sparse.benchmark.own", "audio_lottery.commands.bench"):
        monkeypatch.setattr(f"{place}.accelerated", accelerate)


@pytest.fixture
def sparse_model(tmp_path: Path) -> Path:
    """A folder with a backbone of which a fifth of the prunable weights is left."""
    backbone = load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), seed=0)
    pruning.apply(pruning.prune(backbone.module, 0.2), backbone.module)
    backbone.save(tmp_path / "ticket")
    return tmp_path / "ticket"


def test_a_sparse_folder(sparse_model: Path, stand_in: None, tmp_path: Path, capsys) -> None:
    bench.main([str(sparse_model), *QUICK, "--profile", "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert all(list(row)[: len(FIELDS)] == FIELDS for row in rows)
    assert {(row["runtime"], row["precision"]) for row in rows} == {
        ("torch", "float32"),
        ("torch", "bfloat16"),
        ("torch", "int8"),
        ("audio_lottery", "float32"),
        ("audio_lottery", "bfloat16"),
        ("audio_lottery", "int8"),
    }
    assert all(row["sparsity"] == pytest.approx(0.8, abs=1e-3) and row["audio_seconds"] == 0.5 for row in rows)
    printed = capsys.readouterr().out
    for words in (
        "80 % of the prunable weights are zero",
        "exclusive time by kind",
        "kernels",
        "at least ms",
        "multiply-adds",
    ):
        assert words in printed


def test_a_compact_folder_on_the_real_kernels(sparse_model: Path, tmp_path: Path) -> None:
    compress.main([str(sparse_model), str(tmp_path / "compact")])
    assert not (tmp_path / "compact" / "model.safetensors").exists()
    bench.main([str(tmp_path / "compact"), *QUICK, "--profile", "--json", str(tmp_path / "rows.json")])
    rows = json.loads((tmp_path / "rows.json").read_text())
    ours = {row["precision"]: row for row in rows if row["runtime"] == "audio_lottery"}
    assert set(ours) == {"float32", "bfloat16", "int8"}
    assert ours["float32"]["max_abs_difference"] <= 1e-4
    assert all(row["sparsity"] == pytest.approx(0.8, abs=1e-3) for row in rows)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["nowhere/at-all", *QUICK], ModelError, "model 'nowhere/at-all' cannot be loaded"),
        (["m", "--repeats", "0"], ConfigError, "--repeats 0"),
        (["m", "--threads", "9999"], ConfigError, "--threads 9999"),
        (["m", "--runtimes", "tflite"], ConfigError, "--runtimes tflite"),
        (["m", "--seconds", "-1"], ConfigError, "--seconds -1"),
    ],
)
def test_mistakes(arguments: list[str], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as raised:
        bench.main(arguments)
    assert "\n" not in str(raised.value)


def script(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    runpy.run_path(str(SCRIPT))["main"]()


def test_the_script_prunes_measures_and_draws(sparse_model, stand_in, monkeypatch, tmp_path, capsys) -> None:
    options = ["--sparsities", "0", "0.9", "--patterns", "16x1", "--profile"]
    files = ["--json", str(tmp_path / "rows.json"), "--plot", str(tmp_path / "figure.svg")]
    script(monkeypatch, str(sparse_model), *QUICK, *options, *files)
    written = json.loads((tmp_path / "rows.json").read_text())
    ours = [row for row in written["rows"] if row["runtime"] == "audio_lottery"]
    assert [(row["precision"], row["pattern"], row["sparsity"]) for row in ours] == [
        ("float32", "dense", 0.0),
        ("bfloat16", "dense", 0.0),
        ("int8", "dense", 0.0),
        ("float32", "16x1", 0.9),
        ("bfloat16", "16x1", 0.9),
        ("int8", "16x1", 0.9),
    ]
    assert (tmp_path / "figure.svg").stat().st_size > 1000
    lines = written["break_even"]
    assert {(line["precision"], line["rival"], line["pattern"]) for line in lines} == {
        (precision, "torch", "16x1") for precision in ("float32", "bfloat16", "int8")
    }
    assert len(lines) == 9
    printed = capsys.readouterr().out
    assert "effective, 16x1 90 %" in printed
    assert "break-even sparsity of whole models" in printed


def test_the_script_refuses_a_picture_format_before_it_measures(monkeypatch, tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"\.bmp"):
        script(monkeypatch, *QUICK, "--plot", str(tmp_path / "figure.bmp"))


def test_shapes_by_name(stand_in: None, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    arguments = [*QUICK, "--shapes", "conformer-small", "--sparsities", "0.9", "--patterns", "unstructured"]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *arguments])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(SCRIPT), run_name="__main__")
    assert not ended.value.code
    printed = capsys.readouterr().out
    assert "conformer-small shapes" in printed
    assert "break-even" not in printed


def test_break_even_of_several_shapes(stand_in: None, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(
        "audio_lottery.models.shapes.SHAPES",
        {name: lambda seed, name=name: replace(wav2vec2_base(seed, **TINY), name=name) for name in ("one", "two")},
    )
    options = ["--shapes", "all", "--sparsities", "0.5", "0.9", "--patterns", "16x1", "--precisions", "int8"]
    script(monkeypatch, *QUICK, *options)
    printed = capsys.readouterr().out
    assert printed.count("break-even sparsity of whole models") == 3
    together = printed.split("all together: ")[1].splitlines()
    assert [line.split()[:5] for line in together[-2:]] == [
        [name, "0.5", "s", "int8", "16x1"] for name in ("one", "two")
    ]
