"""The summary table and the curve: what is in them, that they come out whole, and that they are reproducible."""

import csv
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.errors import RunError, StorageError
from audio_lottery.report.plots import _spread, _tick_places, curves, plot_curve
from audio_lottery.report.tables import COLUMNS, column_order, format_table, plain_number, write_summary


def make_rows(rounds: int = 4, suites: tuple[str, ...] = ("noise10",)) -> list[dict[str, Any]]:
    rows = []
    for index in range(rounds):
        density = 0.8**index
        row = {
            "round": index,
            "remaining_percent": 100 * density,
            "remaining_percent_all": 3 + 97 * density,
            "dev_wer": 0.05 + 0.001 * index,
            "test_wer": 0.06 + 0.001 * index,
        }
        row |= {f"test_wer_{suite}": 0.2 + 0.1 * place for place, suite in enumerate(suites)}
        row |= {"mask_sha256": f"{index:064x}", "steps": 1200 * (index + 1), "audio_hours": 10.125 * (index + 1)}
        row |= {"bytes": 3_600_000, "bytes_gzip": 3_300_000, "seconds": 1 / 3}
        rows.append(row)
    return rows


# --- tables -------------------------------------------------------------------------------------------------------


def test_columns_put_noisy_suites_behind_the_clean_one() -> None:
    rows = [{"extra": 1, "test_wer_noise0": 0.3}, *make_rows(1, ("noise10", "noise0"))]
    assert column_order(rows) == [*COLUMNS[:5], "test_wer_noise0", "test_wer_noise10", *COLUMNS[5:], "extra"]
    assert column_order([]) == list(COLUMNS)


def test_summary_round_trip(tmp_path: Path) -> None:
    rows = make_rows(3, ("noise10", "noise0"))
    path = tmp_path / "run" / "summary.csv"
    write_summary(rows, path)
    with path.open(newline="", encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert list(read[0])[:7] == [*COLUMNS[:5], "test_wer_noise10", "test_wer_noise0"]
    for row, cells in zip(rows, read, strict=True):
        assert {key: type(row[key])(cell) for key, cell in cells.items()} == row
    assert [file.name for file in path.parent.iterdir()] == ["summary.csv"]


def test_summary_leaves_missing_values_empty(tmp_path: Path) -> None:
    write_summary([{"round": 0, "note": 'a, "b"'}, {"round": 1, "dev_wer": None}], tmp_path / "summary.csv")
    with (tmp_path / "summary.csv").open(newline="", encoding="utf-8") as file:
        first, second = csv.DictReader(file)
    assert first["note"] == 'a, "b"'
    assert first["test_wer"] == second["note"] == second["dev_wer"] == ""


def test_failed_write_is_one_line_and_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.csv"
    write_summary(make_rows(1), path)
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(StorageError, match="no space left"):
        write_summary(make_rows(2), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["summary.csv"]


def test_table_is_aligned() -> None:
    lines = format_table(make_rows(2)).splitlines()
    assert lines == [
        "  RW %  WER clean  WER noise10  steps    audio                   bytes",
        "------  ---------  -----------  -----  -------  ----------------------",
        "100.00     6.00 %      20.00 %  1,200  10.12 h  3.60 MB (3.30 MB gzip)",
        " 80.00     6.10 %      20.00 %  2,400  20.25 h  3.60 MB (3.30 MB gzip)",
    ]


def test_table_shows_missing_values() -> None:
    last = format_table([*make_rows(1), {"remaining_percent": 80.0, "bytes": 5_120_000}]).splitlines()[-1]
    assert last.split() == ["80.00", "-", "-", "-", "-", "5.12", "MB"]
    assert len(format_table([]).splitlines()) == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (100.0, "100"),
        (51.2, "51"),
        (13.42, "13"),
        (9.96, "10"),
        (8.59, "8.6"),
        (1.15, "1.1"),
        (0.999, "1.0"),
        (0.353, "0.35"),
    ],
)
def test_plain_numbers(value: float, text: str) -> None:
    assert plain_number(value) == text


# --- plots --------------------------------------------------------------------------------------------------------


def test_plot_writes_two_valid_files_and_the_same_bytes_again(tmp_path: Path) -> None:
    rows, stem = make_rows(21, ("noise10", "noise0")), tmp_path / "figures" / "curve.v1"
    settings_before, title = dict(matplotlib.rcParams), "θLibri → TED-LIUM, $5 & <all>"
    plot_curve(rows, stem, title)
    png, svg = (stem.with_name(f"curve.v1.{suffix}") for suffix in ("png", "svg"))
    assert sorted(stem.parent.iterdir()) == [png, svg]
    assert png.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    assert png.read_bytes().endswith(b"IEND\xaeB`\x82")
    assert ElementTree.parse(svg).getroot().tag == "{http://www.w3.org/2000/svg}svg"
    assert b"date" not in svg.read_bytes()
    first = png.read_bytes(), svg.read_bytes()
    plot_curve(rows, stem, title)
    assert (png.read_bytes(), svg.read_bytes()) == first
    assert dict(matplotlib.rcParams) == settings_before


@pytest.mark.parametrize("rounds", [1, 2])
def test_plot_of_a_search_that_has_just_begun(tmp_path: Path, rounds: int) -> None:
    plot_curve(make_rows(rounds, ()), tmp_path / "curve", "begun")
    assert (tmp_path / "curve.svg").stat().st_size > 1000


@pytest.mark.parametrize("rows", [[], [{"round": 0, "remaining_percent": 100.0, "dev_wer": 0.1, "test_wer": None}]])
def test_nothing_to_draw(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    with pytest.raises(RunError, match="no round has a test WER yet"):
        plot_curve(rows, tmp_path / "curve", "empty")
    assert not list(tmp_path.iterdir())


def test_curves_are_percentages_that_fall_with_the_gaps_left_out() -> None:
    rows = make_rows(3, ("noise10",))
    del rows[1]["test_wer_noise10"]
    rows[2]["test_wer"] = float("nan")
    clean, noisy = curves(rows[::-1])
    assert (clean.name, noisy.name) == ("clean", "noise10")
    assert clean.remaining == pytest.approx([100, 80])
    assert clean.wer == pytest.approx([6.0, 6.1])
    assert clean.dense == pytest.approx(6.0)
    assert noisy.remaining == pytest.approx([100, 64])
    assert curves(rows[1:])[1].dense is None


def test_tick_labels_keep_their_distance() -> None:
    kept = _tick_places([100 * 0.8**index for index in range(21)])
    assert kept[0] == 100
    assert 5 <= len(kept) <= 18
    assert _tick_places([100.0]) == [100.0]


@settings(deadline=None, max_examples=60)
@given(heights=st.lists(st.floats(0, 100), min_size=1, max_size=6))
def test_labels_keep_their_distance_order_and_bounds(heights: list[float]) -> None:
    placed = _spread(heights, 10.0, 0.0, 100.0)
    ordered = [after for _, after in sorted(zip(heights, placed, strict=True))]
    assert all(right - left >= 10 - 1e-9 for left, right in pairwise(ordered))
    assert min(placed) >= 0
    assert max(placed) <= 100 + 1e-9


def test_labels_with_room_stay_where_they_are() -> None:
    assert _spread([50.0, 10.0, 30.0], 12.0, 0.0, 100.0) == [50.0, 10.0, 30.0]


@pytest.mark.slow
def test_the_report_does_not_know_the_lottery() -> None:
    code = (
        "import sys, audio_lottery.report.plots, audio_lottery.report.tables;"
        "print([name for name in sys.modules if name.startswith(('audio_lottery.lottery.', 'matplotlib.pyplot'))])"
    )
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert other.stdout.strip() == "[]"
