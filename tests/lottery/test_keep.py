"""search.keep: which models stay on disk, that nothing else changes, and that no kill leaves a damaged folder."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from audio_lottery import storage
from audio_lottery.commands.compress import main as compress
from audio_lottery.config import ModelConfig, PruningConfig, RunConfig, SearchConfig, TrainingConfig
from audio_lottery.errors import ModelError, RunError
from audio_lottery.lottery.keep import best_round, files_kept, remove_models
from audio_lottery.lottery.methods import make_method
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.lottery.search import search
from audio_lottery.lottery.select import select
from audio_lottery.models.load import load_folder
from audio_lottery.report.selection import format_selection
from audio_lottery.storage import read_json, remove_sealed, sealed_folder, verify_sealed, write_bytes
from tests.lottery.test_methods import settings

MODEL = "model.safetensors"


@pytest.fixture(scope="module")
def run(tiny_corpus, tmp_path_factory):
    """A search of three pruned rounds by ``keep``, made when it is asked for: folder and rows."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def get(kept: str) -> tuple[Path, list[dict]]:
        if kept not in done:
            done[kept] = folder / kept, search(config_of(tiny_corpus, folder / kept, kept))
        return done[kept]

    return get


TRAINING = TrainingConfig(max_steps=4, max_batch_seconds=8, learning_rate=2e-3, eval_every=4)


def config_of(root: Path, run_dir: Path, kept: str, pruning: PruningConfig | None = None, rounds: int = 3) -> RunConfig:
    return settings(
        root, run_dir, pruning or PruningConfig(), search=SearchConfig(rounds, kept), training=replace(TRAINING)
    )


def models(run_dir: Path) -> list[str]:
    return sorted(path.parent.name for path in run_dir.glob(f"*/{MODEL}"))


def figures(rows: list[dict]) -> list[dict]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def test_masks_and_error_rates_are_the_same_whatever_is_kept(run):
    _, everything = run("all")
    for kept in ("best", "masks"):
        run_dir, rows = run(kept)
        assert figures(rows) == figures(everything)
        for number in range(4):
            path = Path(f"round_0{number}") / "hypotheses" / "clean.tsv"
            assert (run_dir / path).read_bytes() == (run("all")[0] / path).read_bytes()
            assert (run_dir / path.parent.parent / "mask.safetensors").is_file()


def test_what_stays(run):
    run_dir, rows = run("best")
    best = best_round(rows)
    assert models(run_dir) == sorted({"theta", "round_00", f"round_0{best}", "round_03"})
    assert best == select([run_dir]).best.round
    assert models(run("masks")[0]) == ["round_03", "theta"]
    assert models(run("all")[0]) == ["round_00", "round_01", "round_02", "round_03", "theta"]


def rounds(paths: set[Path]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for path in sorted(paths):
        found.setdefault(path.name.removesuffix(".safetensors"), []).append(int(path.parent.name[-2:]))
    return found


@pytest.mark.parametrize(
    ("pruning", "best", "masks"),
    [
        (PruningConfig(), [0, 2, 4], [4]),
        (PruningConfig(rewind="lr"), [0, 2, 4], [4]),
        (PruningConfig(method="omp"), [0, 2], [0]),
        (PruningConfig(method="mpi"), [0, 2], []),
        (PruningConfig(method="gmp"), [0, 2], []),
        (PruningConfig(control="dense"), [0, 2], []),
        (PruningConfig(ticket="other"), [0, 2], []),
        (PruningConfig(ticket="other", rewind="lr"), [0, 2, 4], [4]),
    ],
)
def test_models_that_later_rounds_are_made_from_stay(tmp_path, pruning, best, masks):
    folder = RunFolder(tmp_path)
    for kept, expected in (("best", best), ("masks", masks)):
        for planned in (4, 9):  # the last round, and one on the way
            config = config_of(tmp_path, tmp_path, kept, pruning, planned)
            assert rounds(files_kept(config.search, 4, 2, make_method(config, folder))).get("model", []) == expected


@pytest.mark.parametrize(("method", "source"), [("imp", 4), ("omp", 0)])
def test_movement_scores_stay_where_a_mask_will_be_made_from_them(tmp_path, method, source):
    config = config_of(tmp_path, tmp_path, "best", PruningConfig(method=method, score="movement"), 9)
    assert rounds(files_kept(config.search, 4, 2, make_method(config, RunFolder(tmp_path))))["movement"] == [source]


def test_an_old_run_is_thinned_and_a_thinned_one_goes_on(run, tiny_corpus, tmp_path):
    whole = run("all")[1]
    run_dir = tmp_path / "run"
    search(config_of(tiny_corpus, run_dir, "all", rounds=2))
    assert models(run_dir) == ["round_00", "round_01", "round_02", "theta"]
    search(config_of(tiny_corpus, run_dir, "masks", rounds=2))
    assert models(run_dir) == ["round_02", "theta"]
    rows = search(config_of(tiny_corpus, run_dir, "all", rounds=3))
    assert figures(rows) == figures(whole)
    assert models(run_dir) == ["round_02", "round_03", "theta"]


def test_a_round_whose_source_is_gone_says_what_to_compute_again(run, tiny_corpus, tmp_path):
    whole = run("all")[1]
    run_dir = tmp_path / "run"
    config = config_of(tiny_corpus, run_dir, "best")
    search(replace(config, search=SearchConfig(2, "masks")))
    write_bytes(run_dir / "round_02" / MODEL, b"damaged")
    with pytest.raises(RunError, match=r"round_02/model\.safetensors has 7 bytes .* remove .*round_02 and the rounds"):
        search(config)
    os.rename(run_dir / "round_02", tmp_path / "aside")
    message = r"^round_02 is made from .*round_01/model\.safetensors, which was not kept \(search\.keep\); remove "
    with pytest.raises(RunError, match=message + "round_00 to 01 from .*run and run the command again"):
        search(config)
    for name in ("round_00", "round_01"):
        os.rename(run_dir / name, tmp_path / name)
    assert figures(search(config)) == figures(whole)


def test_select_compress_and_transfer_say_that_a_model_was_not_kept(run, tiny_corpus, tmp_path):
    run_dir, _ = run("masks")
    there = (
        r"it was not kept \(search\.keep masks\); the same settings with another run_dir and search\.keep all make it"
    )
    for number in (1, 2):
        with pytest.raises(ModelError, match=rf"round_0{number} has no model: {there}"):
            load_folder(run_dir / f"round_0{number}")
    with pytest.raises(ModelError, match=there):
        compress([str(run_dir / "round_01"), str(tmp_path / "small")])
    with pytest.raises(ModelError, match=there):
        search(
            settings(tiny_corpus, tmp_path / "a", PruningConfig(), model=ModelConfig(init=str(run_dir / "round_01")))
        )
    chosen = select([run_dir])
    lines = {number: line for number in (1, 3) for line in [named(chosen, number)]}
    assert "; no model: it was not kept (search.keep masks); " in lines[1]
    assert "no model" not in lines[3]
    # its masks are there: a ticket is transferred as from any run
    rows = search(config_of(tiny_corpus, tmp_path / "b", "all", PruningConfig(ticket=str(run_dir)), rounds=2))
    assert [row["mask_sha256"] for row in rows] == [ticket.mask_sha256[0] for ticket in chosen.tickets[:3]]


def named(selection, number: int) -> str:
    """The line that names a round, as if it were the only pruned one."""
    only = replace(selection, tickets=tuple(t for t in selection.tickets if t.round in (0, number)))
    return next(line for line in format_selection(only).splitlines() if line.startswith("best:"))


class Killed(BaseException):
    """Stands for kill -9: nothing catches it."""


@pytest.mark.parametrize("moment", range(12))
def test_killed_between_any_two_writes_the_folder_resumes(run, tiny_corpus, tmp_path, monkeypatch, moment):
    """Every system call that changes the disk while models are removed is a moment to die, before or after it."""
    whole, rows = run("all")
    shutil.copytree(whole, tmp_path / "run")
    config = config_of(tiny_corpus, tmp_path / "run", "masks")
    calls = {"left": moment}

    def may_die() -> None:
        if calls["left"] == 0:
            raise Killed
        calls["left"] -= 1

    def deadly(function):
        def call(*arguments, **options):
            may_die()
            result = function(*arguments, **options)
            may_die()
            return result

        return call

    with monkeypatch.context() as patch:
        patch.setattr(storage.os, "replace", deadly(os.replace))
        patch.setattr(Path, "unlink", deadly(Path.unlink))
        with pytest.raises(Killed):
            remove_models(config, make_method(config, RunFolder(tmp_path / "run")), rows)
    for number in range(4):
        verify_sealed(tmp_path / "run" / f"round_0{number}", "remedy")
    assert figures(search(config)) == figures(rows)
    assert models(tmp_path / "run") == ["round_03", "theta"]


def test_the_seal_knows_what_was_removed(tmp_path):
    folder = tmp_path / "stage"
    with sealed_folder(folder) as temporary:
        for name in ("a", "b"):
            write_bytes(temporary / name, name.encode() * 10)
    remove_sealed(folder, ["a", "no such file"], "no need")
    remove_sealed(folder, ["a"], "another reason")
    verify_sealed(folder, "remedy")
    assert not (folder / "a").exists()
    seal = json.loads((folder / "done").read_text())
    assert list(seal["files"]) == ["b"]
    assert list(seal["removed"]) == ["a"]
    assert storage.removal_reason(folder, "a") == "no need"
    assert storage.removal_reason(folder, "b") is None
    write_bytes(folder / "a", b"a" * 10)  # made again and put back
    verify_sealed(folder, "remedy")
    write_bytes(folder / "a", b"x" * 10)
    with pytest.raises(RunError, match="a does not hold the bytes that were written; remedy"):
        verify_sealed(folder, "remedy")
    os.remove(folder / "b")
    write_bytes(folder / "a", b"a" * 10)
    with pytest.raises(RunError, match="b is missing; remedy"):
        verify_sealed(folder, "remedy")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"removed": {}}'])
def test_a_folder_of_somebody_else_has_no_removed_files(tmp_path, content):
    if content is not None:
        (tmp_path / "done").write_text(content)
    assert storage.removal_reason(tmp_path, MODEL) is None


def test_best_on_dev_is_the_sparser_of_equals():
    rows = [
        {"round": k, "dev_wer": w, "remaining_percent": 100 * 0.8**k} for k, w in enumerate((0.1, 0.3, 0.2, 0.2, 0.4))
    ]
    assert best_round(rows) == 3
    assert best_round(rows[:1]) is None


def test_metrics_remain_as_they_were(run):
    run_dir, rows = run("masks")
    assert read_json(run_dir / "round_01" / "metrics.json")["bytes"] == rows[1]["bytes"] > 0
