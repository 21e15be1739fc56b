"""Tables and figure of an inference benchmark, from literal rows."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from audio_lottery.errors import ConfigError, RunError
from audio_lottery.report.inference import (
    check_plot_path,
    format_budget,
    format_comparison,
    format_macs,
    format_profile,
    plot_comparison,
)
from audio_lottery.sparse.benchmark import Machine, Macs, Outcome, PartBudget


def row(runtime: str, precision: str, pattern: str, sparsity: float, median: float, seconds: float = 10.0) -> dict:
    return {
        "runtime": runtime,
        "precision": precision,
        "pattern": pattern,
        "sparsity": sparsity,
        "audio_seconds": seconds,
        "median_s": median,
        "min_s": 0.9 * median,
        "max_s": 1.2 * median,
        "shared": runtime != "audio_lottery",
        "density": 1 - sparsity,
        "max_abs_difference": 2.5e-5,
        "error_share": 1e-5,
        "same_labels": 1.0,
        "cores": 1.96,
        "plan": "74 csr, 7 dense" if runtime == "audio_lottery" else "",
    }


ROWS = [
    row("torch", "float32", "dense", 0.0, 1.2),
    row("torch", "float32", "dense", 0.9, 1.2),
    row("openvino", "bfloat16", "dense", 0.0, 0.3),
    row("openvino", "bfloat16", "dense", 0.9, 0.3),
    row("audio_lottery", "float32", "dense", 0.0, 1.3),
    row("audio_lottery", "float32", "unstructured", 0.9, 0.24),
    row("audio_lottery", "float32", "16x1", 0.9, 0.2),
]


def test_tables_are_sorted_and_hold_ratios_to_the_named_runtimes() -> None:
    text = format_comparison(Outcome("a model, 2 threads", ROWS, ["onnxruntime float32 is left out: not installed"]))
    lines = text.splitlines()
    assert lines[0] == "a model, 2 threads"
    start = lines.index("10 s of audio, 90 % of the prunable weights are zero")
    assert [" ".join(line.split()) for line in lines[start + 4 : start + 8]] == [
        "audio_lottery fp32 16x1 0.2000 0.1800 0.2400 0.0200 6.00 - 1.50 - 2.5e-05 100.0 2.0",
        "audio_lottery fp32 unstructured 0.2400 0.2160 0.2880 0.0240 5.00 - 1.25 - 2.5e-05 100.0 2.0",
        "openvino bf16 dense 0.3000 0.2700 0.3600 0.0300 4.00 - 1.00 - 2.5e-05 100.0 2.0",
        "torch fp32 dense 1.2000 1.0800 1.4400 0.1200 1.00 - 0.25 - 2.5e-05 100.0 2.0",
    ]
    assert "10 s of audio, 0 % of the prunable weights are zero" in lines
    assert lines[-1] == "onnxruntime float32 is left out: not installed"
    assert "measured once per length" in text
    assert "audio_lottery fp32 16x1 90 %: 74 csr, 7 dense" in text


def test_one_sparsity_says_nothing_of_sharing() -> None:
    assert "measured once per length" not in format_comparison(Outcome("own", ROWS[5:], []))


def test_macs_table() -> None:
    counts = {
        "90 %": [Macs("feed-forward", 20_000_000_000, 2_000_000_000), Macs("attention itself", 10**9, 10**9)],
        "95 %": [Macs("feed-forward", 20_000_000_000, 1_000_000_000), Macs("attention itself", 10**9, 10**9)],
    }
    lines = [line.split() for line in format_macs(counts, 10).splitlines()]
    assert lines[4] == ["feed-forward", "20.000", "2.000", "10.0", "1.000", "5.0"]
    assert lines[-1] == ["all", "21.000", "3.000", "14.3", "2.000", "9.5"]


def test_profile_table() -> None:
    lines = [line.split() for line in format_profile({"GELU": 0.03, "head": 0.01}, "torch fp32").splitlines()]
    assert lines[-3:] == [["GELU", "30.0", "75.0"], ["head", "10.0", "25.0"], ["all", "40.0", "100.0"]]


def test_budget_table() -> None:
    machine = Machine(2, "int8", 500e9, 20e9)
    parts = [PartBudget("feed-forward", 0.03, 3 * 10**9, 10**8), PartBudget("everything else", 0.01, 0, 0)]
    lines = [line.split() for line in format_budget(parts, machine, "int8, 10 s").splitlines()]
    # 3 · 10⁹ multiply-adds take 6 ms at 500 · 10⁹ a second, 100 MB 5 ms at 20 GB/s
    assert lines[4] == ["feed-forward", "30.0", "75.0", "3.000", "100", "20.0", "100.0", "6.0"]
    assert lines[5] == ["everything", "else", "10.0", "25.0", "-", "-", "-", "-", "-"]
    assert lines[6] == ["all", "40.0", "100.0", "3.000", "75", "15.0", "100.0", "6.0"]
    assert "500 · 10⁹ a second in int8, 20.0 GB/s" in format_budget(parts, machine, "").splitlines()[-1]


def test_figure_is_whole_reproducible_and_begins_at_the_dense_point(tmp_path: Path) -> None:
    path = tmp_path / "figures" / "speed.svg"
    rows = [*ROWS, row("torch", "float32", "dense", 0.9, 0.2, seconds=2.0)]
    plot_comparison(rows, path, "a $model & <all>")
    assert ElementTree.parse(path).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    first = path.read_bytes()
    plot_comparison(rows, path, "a $model & <all>")
    assert path.read_bytes() == first
    from audio_lottery.report.inference import _lines

    lines = _lines(ROWS)
    assert list(lines) == [
        "torch fp32",
        "openvino bf16",
        "audio_lottery fp32 unstructured",
        "audio_lottery fp32 16x1",
    ]
    assert {one["sparsity"]: one["median_s"] for one in lines["audio_lottery fp32 16x1"]} == {0.0: 1.3, 0.9: 0.2}
    assert list(_lines(ROWS[4:5])) == ["audio_lottery fp32 dense"]
    plot_comparison(ROWS[:1], tmp_path / "one.png", "one")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figures", "one.png"]


def test_figures_that_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--plot .*speed\.pdf: pictures are written as \.png or \.svg"):
        check_plot_path(tmp_path / "speed.pdf")
    with pytest.raises(RunError, match="no rows"):
        plot_comparison([], tmp_path / "speed.png", "t")
    assert not list(tmp_path.iterdir())
