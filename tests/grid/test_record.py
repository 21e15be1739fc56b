"""Records stand for run folders: the same tables and pictures, nothing run twice, and no record of another search."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from audio_lottery.cli import main
from audio_lottery.config import ArmConfig, GridConfig
from audio_lottery.errors import RunError
from audio_lottery.evaluation.counts import count_errors
from audio_lottery.grid import launch
from audio_lottery.grid.cells import Cell, plan_cells, unfinished
from audio_lottery.grid.record import RecordedRun, Records, _serialise
from audio_lottery.lottery.select import SearchedRun, measure, read_run
from audio_lottery.settings import to_yaml
from tests.report.synthetic_run import make_run

TABLES = ("comparison.md", "comparison.csv", "comparison.json", "comparison.png", "comparison.svg")
THETA = {"train": [{"corpus": "mini-libri", "split": "train-clean"}], "dev": [{"corpus": "mini-libri", "split": "dev"}]}
SECRET = "zebrafish"
STEPS = {"max_steps": 8}
SETTINGS = {"search": {"rounds": 2}, "training": STEPS, "theta": {"training": STEPS}}


def settings(out: Path, **changes) -> GridConfig:
    arms = {"zero": ArmConfig(label="θ0"), "longer": ArmConfig(settings={"training": {"max_steps": 9}})}
    fields = {"arms": arms, "out": str(out), "seeds": [1, 2], "settings": SETTINGS}
    return GridConfig(**{**fields, **changes})


def finish(cell: Cell, **changes) -> Path:
    """The run folder of a search that took no time."""
    if cell.is_theta:
        raise AssertionError(f"{cell.name} was trained again")
    seed = 10 * cell.config.seed + len(cell.arm)
    options = {"seed": seed, "utterances": 12, "suites": {"noise10": 0.1, "clean": 0.0}, "reference": SECRET}
    run = make_run(cell.folder.path, cell.config.search.rounds, **(options | changes))
    for path in run.glob("round_*/metrics.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"seed": cell.config.seed}))
    (run / "config.yaml").write_text(to_yaml(cell.config))
    (run / "summary.csv").write_text("round\n" + "".join(f"{n}\n" for n in range(cell.config.search.rounds + 1)))
    return run


def records_of(grid: GridConfig, folder: Path) -> tuple[Records, dict[str, Cell]]:
    cells = {cell.name: cell for cell in plan_cells(grid)}
    return Records(folder, cells, {name: arm.label for name, arm in grid.arms.items()}), cells


@pytest.fixture
def one(tmp_path) -> tuple[Records, Cell]:
    """A comparison with one search finished, its record written."""
    records, cells = records_of(settings(tmp_path / "out"), tmp_path / "records")
    finish(cells["zero-seed1"])
    assert not isinstance(records.finished(cells["zero-seed1"]), RecordedRun)
    return records, cells["zero-seed1"]


@pytest.fixture
def grid_file(tmp_path) -> Path:
    grid = settings(tmp_path / "out")
    arms = {"zero": {"label": "θ0"}, "longer": {"settings": grid.arms["longer"].settings}}
    document = {"out": grid.out, "seeds": grid.seeds, "settings": grid.settings, "arms": arms}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(document | {"records": str(tmp_path / "records")}))
    return tmp_path / "grid.yaml"


@pytest.fixture
def started(monkeypatch, tmp_path) -> list[str]:
    """Searches take no time, in this process; their names in order."""
    names: list[str] = []
    cells = {cell.name: cell for cell in plan_cells(settings(tmp_path / "out"))}

    def run(words, log, environment):
        names.append(words[0])
        shutil.rmtree(cells[words[0]].folder.path, ignore_errors=True)
        finish(cells[words[0]])
        return 0

    monkeypatch.setattr(launch, "command", lambda grid, cell: [cell.name])
    monkeypatch.setattr(launch, "run_process", run)
    return names


def outcome(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in TABLES}


def page(out: Path) -> str:
    """The page without what only run folders hold."""
    text = (out / "comparison.html").read_text(encoding="utf-8")
    shown = r'<section class="card(?: transcripts)?">\s*<h2>What was heard</h2>.*?</section>\s*'
    return re.sub(shown, "", text, flags=re.DOTALL)


def test_records_alone_give_the_tables_and_pictures_of_the_run_folders(grid_file, started, tmp_path, capsys):
    out, kept = tmp_path / "out", tmp_path / "kept"
    assert main(["compare", str(grid_file)]) == 0
    assert sorted(started) == ["longer-seed1", "longer-seed2", "zero-seed1", "zero-seed2"]
    assert {path.stem for path in (tmp_path / "records").iterdir()} == set(started)
    before, read = outcome(out), page(out)
    out.rename(kept)

    capsys.readouterr()
    assert main(["compare", str(grid_file), "--table-only"]) == 0
    assert outcome(out) == before
    assert page(out) == read
    assert "only a record of this search is there" in (out / "comparison.html").read_text(encoding="utf-8")
    assert "records: of 4 searches there is nothing else" in capsys.readouterr().out
    assert not (out / "overlap.png").exists()
    assert not list(out.glob("*-seed*"))

    # One search lost whole, the folder of another back: what is missing runs, and all is as it was.
    (tmp_path / "records" / "longer-seed2.json").unlink()
    shutil.copytree(kept / "zero-seed1", out / "zero-seed1")
    del started[:]
    assert main(["compare", str(grid_file)]) == 0
    assert started == ["longer-seed2"]
    assert outcome(out) == before


def test_a_search_that_was_killed_before_its_record_or_after_its_folder(one, started, grid_file, tmp_path):
    records, cell = one
    written = (tmp_path / "records" / "zero-seed1.json").read_bytes()
    (tmp_path / "records" / "zero-seed1.json").unlink()
    assert main(["compare", str(grid_file), "--table-only"]) == 2, "no arm is finished"
    assert (tmp_path / "records" / "zero-seed1.json").read_bytes() == written, "written now, and the same bytes"
    (cell.folder.path / "summary.csv").unlink()
    assert isinstance(records.finished(cell), RecordedRun)
    assert main(["compare", str(grid_file)]) == 0
    assert sorted(started) == ["longer-seed1", "longer-seed2", "zero-seed2"]


def test_a_record_holds_no_word_and_no_place(one, tmp_path):
    text = (tmp_path / "records" / "zero-seed1.json").read_text()
    assert SECRET in (one[1].folder.path / "round_00" / "hypotheses" / "clean.tsv").read_text()
    assert SECRET not in text
    assert str(tmp_path) not in text
    content = json.loads(text)
    assert (content["arm"], content["label"], content["seed"], content["format"]) == ("zero", "θ0", 1, 1)
    assert [entry["metrics"]["commit"] for entry in content["rounds"]] == ["0123456789ab"] * 3


class Spoken(SearchedRun):
    """A run of one round with texts of the test's choice."""

    def texts(self, number, name):
        return TEXTS[number]


def texts(seed: int):
    rng = np.random.default_rng(0)
    said = [" ".join(rng.choice(["a", "bé", "c d"], size)) for size in rng.integers(0, 9, 40)]
    rng = np.random.default_rng(seed)
    heard = [" ".join(w for w in f"{t} a b".split() if rng.uniform() < 0.7) for t in said]
    order = rng.permutation(40)
    people = [f"s{i % 7}" if i % 7 else "" for i in range(40)] if seed == 3 else [f"s{i % 7}" for i in range(40)]
    counts = count_errors([f"u {i}" for i in range(40)], said, heard, "basic", speakers=people)
    return counts.take(order)


TEXTS = [texts(seed) for seed in (1, 2, 3)]


def test_statistics_come_out_as_from_the_texts(one, tmp_path):
    """Two alignments that differ, empty references and hypotheses, utterances in another order, unknown speakers."""
    records, cell = one
    run = read_run(cell.folder.path)
    for metrics in run.rounds.values():
        for result in (metrics["dev"], *metrics["test"].values()):
            result["wer"] = 0.0  # is not looked at
    spoken = Spoken(run.folder, run.config, None, run.rounds, run.bench)
    content = records._content(cell, spoken)
    assert any(entry["errors"]["clean"]["nist"] for entry in content["rounds"])
    assert len(content["utterances"]) == 3, "once for each order"
    path = tmp_path / "records" / "zero-seed1.json"
    path.write_bytes(_serialise(content))
    recorded = records._read(cell)
    for number, whole in enumerate(TEXTS):
        found = recorded.errors(number, "clean")
        assert (found.ids, found.speakers, found.wer, found.said) == (whole.ids, whole.speakers, whole.wer, whole.said)
        for base, dense in ((TEXTS[0], recorded.errors(0, "clean")), (recorded.errors(0, "clean"), TEXTS[0])):
            assert measure([found], [dense], 100, 0) == measure([whole], [base], 100, 0)


def test_other_settings_are_named_and_other_machines_are_not(one, tmp_path):
    def read(name="zero-seed1", out="elsewhere", **changes):
        records, cells = records_of(settings(tmp_path / out, **changes), tmp_path / "records")
        return records.finished(cells[name])

    assert isinstance(read(), RecordedRun)
    machine = {"data": {"root": "/corpora", "num_workers": 3}, "num_processes": 1, "log_with": None}
    assert isinstance(read(settings=SETTINGS | machine), RecordedRun)
    assert read(settings=SETTINGS | {"search": {"rounds": 3}}) is None, "it has not finished"
    assert isinstance(read(settings=SETTINGS | {"search": {"rounds": 1}}), RecordedRun)
    message = r"zero-seed1.json is the record of a search with other settings: training.max_steps \(.* there, 3 now\)"
    with pytest.raises(RunError, match=message):
        read(settings=SETTINGS | {"training": {"max_steps": 3}})
    with pytest.raises(RunError, match=r"settings: model.init \('w2v2-mini' there, 'zero-theta/theta' now\)"):
        read(arms={"zero": ArmConfig(pretrain=THETA)})


def test_what_a_search_starts_from_is_part_of_its_settings(tmp_path):
    def grid(out, limit):
        train = [THETA["train"][0] | {"limit": limit, "path": str(tmp_path / out / "corpus")}]
        return settings(tmp_path / out, arms={"libri": ArmConfig(pretrain=THETA | {"train": train})})

    records, cells = records_of(grid("out", 7), tmp_path / "records")
    finish(cells["libri-seed1"])
    records.finished(cells["libri-seed1"])
    records, cells = records_of(grid("elsewhere", 7), tmp_path / "records")
    assert isinstance(records.finished(cells["libri-seed1"]), RecordedRun)
    assert records.finished(cells["libri-theta"]) is None
    records, cells = records_of(grid("elsewhere", 8), tmp_path / "records")
    with pytest.raises(RunError, match=r"other settings: libri-theta: theta.train \(.*'limit': 7.*'limit': 8"):
        records.finished(cells["libri-seed1"])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda text: text.replace('"jiwer":"H', '"jiwer":"S', 1), "does not hold what was written; get it again"),
        (lambda text: text.replace('"wer":0.', '"wer":0.0', 1), "does not hold what was written"),
        (lambda text: text[:-200], "is no record of a search"),
        (lambda text: "", "is no record of a search"),
        (lambda text: "[]", "is no record of a search"),
        (lambda text: text.replace('"format":1', '"format":2'), "is a record of format 2, and this version reads 1"),
        (lambda text: text.replace(f'"sha256":"{text[-68:-5]}', '"sha256":"'), "does not hold what was written"),
    ],
)
def test_a_damaged_record_is_one_line(one, tmp_path, damage, words):
    records, cell = one
    path = tmp_path / "records" / "zero-seed1.json"
    damaged = damage(path.read_text())
    assert damaged != path.read_text()
    path.write_text(damaged)
    with pytest.raises(RunError, match=f"zero-seed1.json {words}"):
        records.finished(cell)


def test_git_may_change_the_ends_of_lines(one, tmp_path):
    records, cell = one
    path = tmp_path / "records" / "zero-seed1.json"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert records.finished(cell) is not None


@pytest.mark.parametrize("what", ["masks", "errors on dev"])
def test_a_run_folder_that_does_not_agree_with_its_record(one, what):
    records, cell = one
    folder = cell.folder.round(1)
    file = folder / ("metrics.json" if what == "masks" else "hypotheses/dev.tsv")
    text = file.read_text()
    file.write_text(
        text.replace(f"{1:064x}", f"{7:064x}") if what == "masks" else text.replace("\tspeaker", "\tother", 2)
    )
    assert file.read_text() != text
    with pytest.raises(RunError, match=rf"zero-seed1 and .*zero-seed1.json .*do not agree: in round 1 {what} differ"):
        records.finished(cell)


def test_more_rounds_make_a_longer_record(one, tmp_path):
    records, cell = one
    aside = cell.folder.path.rename(tmp_path / "aside")
    more = settings(tmp_path / "out", settings=SETTINGS | {"search": {"rounds": 3}})
    longer, cells = records_of(more, tmp_path / "records")
    assert longer.finished(cells["zero-seed1"]) is None
    finish(cells["zero-seed1"])  # its first rounds come out as they did
    assert sorted(longer.finished(cells["zero-seed1"]).rounds) == [0, 1, 2, 3]
    written = (tmp_path / "records" / "zero-seed1.json").read_bytes()
    shutil.rmtree(cell.folder.path)
    aside.rename(cell.folder.path)
    assert isinstance(records.finished(cell), RecordedRun), "the folder has fewer rounds"
    assert (tmp_path / "records" / "zero-seed1.json").read_bytes() == written


def test_what_a_missing_search_starts_from_runs_again():
    arms = {
        "libri": ArmConfig(pretrain=THETA),
        "random": ArmConfig(tickets_of="libri", settings={"pruning": {"control": "random_layers"}}),
    }
    cells = plan_cells(settings(Path("runs/g"), arms=arms))
    names = {cell.name for cell in cells}
    assert [cell.name for cell in unfinished(cells, set())] == [cell.name for cell in cells]
    assert unfinished(cells, names) == []
    left = unfinished(cells, names - {"random-seed2"})
    assert [cell.name for cell in left] == ["libri-theta", "libri-seed2", "random-seed2"]
