"""Scalars reach the trackers that a run names, stage by stage, and go on where a training that was stopped goes on."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
from accelerate import tracking as accelerate_tracking
from accelerate.tracking import GeneralTracker, register_tracker_class
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audio_lottery.config import PruningConfig
from audio_lottery.errors import ConfigError
from audio_lottery.lottery.search import search
from audio_lottery.processes import make_accelerator
from audio_lottery.training.hooks import Track
from audio_lottery.training.tracking import StageTracker, tracker_names
from tests.lottery.test_methods import settings
from tests.training.test_loop import CONFIG, make_trainer, run_until_killed

SCALARS = ["train/loss", "train/gradient_norm", "train/learning_rate", "dev/wer"]


class Lines(GeneralTracker):
    """A tracker of the user's own: every scalar as a line in memory."""

    name = "lines"
    requires_logging_directory = False
    opened: ClassVar[list["Lines"]] = []

    def __init__(self, project: str) -> None:
        super().__init__()
        self.project, self.points, self.settings, self.finished = project, [], {}, False

    @property
    def tracker(self) -> list:
        return self.points

    def start(self) -> None:
        Lines.opened.append(self)

    def store_init_configuration(self, values: dict) -> None:
        self.settings = values

    def log(self, values: dict, step: int | None = None, **options) -> None:
        self.points += [(step, name, value) for name, value in values.items()]

    def finish(self) -> None:
        self.finished = True


class Files(Lines):
    """One that keeps files, as CSV."""

    name = "files"
    requires_logging_directory = True

    def __init__(self, stage: str, folder: str) -> None:
        super().__init__(stage)
        self.path = Path(folder) / f"{stage}.csv"

    def start(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)

    def finish(self) -> None:
        with self.path.open("a") as file:
            csv.writer(file).writerows(self.points)


class Broken(Lines):
    """One whose service is down."""

    name = "broken"

    def start(self) -> None:
        raise OSError("no route\nto the host")


@pytest.fixture(autouse=True)
def own_trackers(monkeypatch):
    monkeypatch.setattr(accelerate_tracking, "LOGGER_TYPE_TO_CLASS", accelerate_tracking.LOGGER_TYPE_TO_CLASS.copy())
    monkeypatch.setattr(
        "audio_lottery.training.tracking.LOGGER_TYPE_TO_CLASS", accelerate_tracking.LOGGER_TYPE_TO_CLASS
    )
    for kind in (Lines, Files, Broken):
        register_tracker_class(kind)
    Lines.opened.clear()


@pytest.fixture
def tracked(tiny_corpus, tmp_path):
    """A trainer whose scalars go to the named trackers."""

    def make(*names: str):
        run = {"seed": 1, "a": [1, 2]}
        track = Track(StageTracker(names, make_accelerator("no", None), tmp_path / "demo", "theta", run))
        return make_trainer(tiny_corpus, tmp_path / "work", replace(CONFIG, log_every=1), hooks=[track])

    return make


def points(run: Path, stage: str) -> dict[str, list[int]]:
    """Scalar → steps, as TensorBoard shows them."""
    events = EventAccumulator(str(run / "tensorboard" / stage)).Reload()
    return {name: [event.step for event in events.Scalars(name)] for name in events.Tags()["scalars"]}


def test_tensorboard_shows_every_step_once_after_a_kill(tracked, tmp_path, monkeypatch):
    run_until_killed(tracked("tensorboard"), 5, monkeypatch)  # the last checkpoint is of step 4
    assert points(tmp_path / "demo", "theta")["train/loss"] == [1, 2, 3, 4, 5]
    tracked("tensorboard").run()
    found = points(tmp_path / "demo", "theta")
    assert list(found) == SCALARS
    assert found["train/loss"] == [1, 2, 3, 4, 5, 6]
    assert found["dev/wer"] == [2, 4, 6]


def test_any_tracker_of_accelerate_and_several_at_once(tracked, tmp_path, monkeypatch):
    run_until_killed(tracked("lines", "files"), 5, monkeypatch)
    tracked("lines", "files").run()
    first, second = Lines.opened
    assert first.project == second.project == "demo"
    assert second.settings == {"seed": 1, "a": "[1, 2]"}
    assert [step for step, name, _ in first.points if name == "train/loss"] == [1, 2, 3, 4, 5]
    assert [(step, name) for step, name, _ in second.points] == [(5, name) for name in SCALARS[:3]] + [
        (6, name) for name in SCALARS
    ]
    assert (first.finished, second.finished) == (False, True)
    assert len((tmp_path / "demo" / "files" / "theta.csv").read_text().splitlines()) == len(second.points)


def test_a_search_opens_one_run_a_stage(tiny_corpus, tmp_path):
    config = settings(tiny_corpus, tmp_path / "tickets", PruningConfig(), log_with=["lines", "tensorboard"])
    config.training.log_every = 4
    config.search.rounds = 1
    search(config)
    assert [tracker.project for tracker in Lines.opened] == ["tickets", "tickets"]
    assert all(tracker.finished and tracker.settings["pruning.rate"] == 0.2 for tracker in Lines.opened)
    for stage, tracker in zip(("round_00", "round_01"), Lines.opened, strict=True):
        assert points(tmp_path / "tickets", stage) == {name: [4, 8] for name in SCALARS}
        assert [step for step, name, _ in tracker.points if name == "train/loss"] == [4, 8]


def test_no_tracker_writes_nothing(tiny_corpus, tmp_path):
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig(), log_with=None)
    config.search.rounds = 0
    search(config)
    assert not (tmp_path / "run" / "tensorboard").exists()


@pytest.mark.parametrize(
    ("log_with", "names"),
    [
        (None, ()),
        ("none", ()),
        ([], ()),
        ("tensorboard", ("tensorboard",)),
        (["lines", "tensorboard", "lines"], ("lines", "tensorboard")),
        ("all", ("tensorboard",)),
        (["lines", "all"], ("lines", "tensorboard")),
    ],
)
def test_names(log_with, names, monkeypatch):
    monkeypatch.setattr("audio_lottery.training.tracking.get_available_trackers", lambda: ["tensorboard"])
    assert tracker_names(log_with) == names


@pytest.mark.parametrize(
    ("log_with", "message"),
    [
        ("wandb", r"'wandb' is not installed; pip install wandb, or choose another \(installed: tensorboard\)"),
        (
            ["tensorboard", "paper"],
            r"accelerate knows no tracker 'paper'; there are aim, .*tensorboard.*, all and none",
        ),
    ],
)
def test_a_tracker_that_is_not_there_is_told_before_anything_is_written(
    tiny_corpus, tmp_path, monkeypatch, log_with, message
):
    monkeypatch.setattr("audio_lottery.training.tracking.get_available_trackers", lambda: ["tensorboard"])
    with pytest.raises(ConfigError, match=message):
        search(settings(tiny_corpus, tmp_path / "run", PruningConfig(), log_with=log_with))
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_cannot_start_is_one_line(tracked):
    with pytest.raises(ConfigError, match=r"^log_with: lines, broken cannot start: no route to the host; set it up"):
        tracked("lines", "broken").run()
