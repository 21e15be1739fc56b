"""The table of a comparison: which rounds are set beside each other, and what they cost."""

import json

import pytest

from audio_lottery.grid.table import common_budgets, compare_arms
from audio_lottery.report.page import read_group
from audio_lottery.storage import sealed_folder
from tests.report.synthetic_run import make_run


def rewrite(run, change):
    """Change the metrics of every round; ``change`` is a function of its number."""
    for number in range(4):
        folder = run / f"round_{number:02d}"
        metrics = json.loads((folder / "metrics.json").read_text()) | change(number)
        files = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        with sealed_folder(folder) as path:
            for name, content in files.items():
                if name.name != "done":
                    (path / name).parent.mkdir(exist_ok=True)
                    (path / name).write_bytes(content)
            (path / "metrics.json").write_text(json.dumps(metrics))


def test_a_control_that_stays_dense_stands_beside_the_rounds_that_trained_as_long(tmp_path):
    pruned, dense = make_run(tmp_path / "imp", 3), make_run(tmp_path / "dense", 3, base=0.05)
    rewrite(dense, lambda number: {"remaining_percent": 100.0})
    points = compare_arms([read_group("imp", [pruned]), read_group("dense", [dense])], "clean")
    places = {arm: [point.remaining_percent for point in points if point.arm == arm] for arm in ("imp", "dense")}
    assert places["dense"] == places["imp"] == pytest.approx([100, 80, 64, 51.2])
    assert all(point.result.difference is not None for point in points if point.arm == "dense")


def test_budgets_are_named_where_all_arms_have_spent_as_much(tmp_path):
    def groups():
        return [read_group(run.name, [run]) for run in (one, other)]

    one, other = make_run(tmp_path / "one", 3), make_run(tmp_path / "other", 3)
    assert common_budgets(groups()) == {}, "nothing was counted"
    for run in (one, other):
        rewrite(run, lambda number: {"budget": {"steps": 260 * (number + 1), "audio_hours": 0.5}})
    assert common_budgets(groups()) == {100.0: 260, 80.0: 520, 64.0: 780, 51.2: 1040}
    rewrite(other, lambda number: {"budget": {"steps": 260, "audio_hours": 0.5}})
    assert common_budgets(groups()) == {}
