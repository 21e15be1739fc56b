"""A round whose record is not true is not published; what comes back must be what was sent."""

import json
import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from audio_lottery.cli import main
from audio_lottery.errors import ConfigError, HubError, MaskError, ModelError, RunError
from audio_lottery.pruning import Mask
from audio_lottery.publish import load_ticket
from audio_lottery.publish.checks import check_round
from audio_lottery.publish.folder import assemble, published_files
from audio_lottery.publish.hub import check_repo
from audio_lottery.publish.names import Target, check_branch, choose_round
from audio_lottery.publish.upload import verify
from audio_lottery.settings import read_config
from audio_lottery.storage import _write_seal, read_json, remove_sealed, write_json


@pytest.fixture
def run(published_run, tmp_path) -> Path:
    return Path(shutil.copytree(published_run, tmp_path / "demo"))


def check(run: Path, sample: int = 0):
    return check_round(choose_round(run, "1"), read_config(run / "config.yaml"), sample)


def reseal(run: Path, **metrics) -> None:
    """Change a round's record, and seal it as if it had been so all along."""
    folder = run / "round_01"
    write_json(folder / "metrics.json", read_json(folder / "metrics.json") | metrics)
    (folder / "done").unlink()
    _write_seal(folder)


def test_a_true_record_passes_and_is_measured_again(run):
    checked = check(run, sample=3)
    assert checked.remeasured.utterances == 3
    assert checked.remeasured.differing == 0
    assert checked.remeasured.wer == checked.remeasured.recorded


def test_changed_bytes_are_found(run):
    file = run / "round_01" / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(RunError, match="does not hold the bytes"):
        check(run)


def test_another_mask_or_density_than_recorded_is_found(run):
    reseal(run, kept=1)
    with pytest.raises(RunError, match="number of kept weights"):
        check(run)
    reseal(run, mask_sha256="0" * 64)
    with pytest.raises(RunError, match="SHA-256"):
        check(run)


def test_a_model_that_is_denser_than_its_mask_is_found(run):
    file = run / "round_01" / "model.safetensors"
    state = load_file(file)
    name = next(iter(Mask.load(run / "round_01" / "mask.safetensors")))
    state[name] = state[name] + 1
    save_file(state, file, metadata={"format": "pt"})
    reseal(run)
    with pytest.raises(MaskError, match="denser than was asked"):
        check(run)


def test_a_wer_of_other_transcripts_is_found(run):
    file = run / "round_01" / "hypotheses" / "clean.tsv"
    lines = file.read_text().splitlines()
    fields = lines[1].split("\t")
    fields[2] = "something else altogether"
    lines[1] = "\t".join(fields)
    file.write_text("\n".join(lines) + "\n")
    reseal(run)
    with pytest.raises(RunError, match="the WER is"):
        check(run)
    table = read_json(run / "round_01" / "metrics.json")
    with pytest.raises(RunError) as caught:
        check(run)
    wer = float(str(caught.value).split("the WER is ")[1].split(",")[0])
    table["test"]["clean"]["wer"] = wer  # now the record agrees with itself, and not with the model
    reseal(run, test=table["test"])
    with pytest.raises(RunError, match="another text than was recorded"):
        check(run, sample=100)
    assert check(run, sample=0).remeasured is None


def test_a_model_that_was_not_kept_cannot_be_published(run):
    remove_sealed(run / "round_01", ["model.safetensors"], "it was not kept (search.keep best)")
    with pytest.raises(ModelError, match="it was not kept"):
        check(run)


def test_words_for_rounds(run, tmp_path):
    assert choose_round(run, "best").number in (1, 2)
    assert "best" in choose_round(run, "best").marks
    with pytest.raises(RunError, match="finished are 0, 1, 2"):
        choose_round(run, "7")
    with pytest.raises(ConfigError, match="best, extreme, winning"):
        choose_round(run, "last")
    with pytest.raises(RunError, match="not a run folder"):
        choose_round(tmp_path, "best")


@pytest.mark.parametrize("repo", ["ticket", "a/b/c", "me/..", "-x/y", ""])
def test_impossible_repositories_are_refused(repo):
    with pytest.raises(ConfigError, match="--repo"):
        check_repo(repo)


def test_impossible_branches_are_refused():
    check_branch("round-02")
    for branch in ("a b", '"', "-x", "a/../b"):
        with pytest.raises(ConfigError, match="--branch"):
            check_branch(branch)


def test_the_command_line_refuses_in_one_line(run, capsys):
    for arguments in (["--round", "1", "--repo", "ticket"], ["--round", "1", "--repo", "a/b", "--sample", "-1"]):
        assert main(["publish", str(run), *arguments, "--dry-run"]) == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (run / "publish").exists()


class Returned:
    """A repository that gives back a folder, after ``change`` has been at it."""

    repo = "somebody/ticket"

    def __init__(self, folder: Path, change=lambda path: None) -> None:
        self.folder, self.change = folder, change

    def download(self, name: str, commit: str, folder: Path) -> Path:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        path = Path(shutil.copyfile(self.folder / name, folder / name))
        self.change(path)
        return path


def test_what_comes_back_is_compared(run):
    chosen, config = choose_round(run, "2"), read_config(run / "config.yaml")
    folder = assemble(chosen, config, check_round(chosen, config, 0), Target("somebody/ticket"))
    names = list(published_files(folder))
    verify(Returned(folder), folder, names, "0" * 40)

    def cut(path: Path) -> None:
        if path.name == "model.sparse.safetensors":
            path.write_bytes(path.read_bytes()[:-4])

    with pytest.raises(HubError, match=r"model\.sparse\.safetensors in commit 0+ .* is not the file that was sent"):
        verify(Returned(folder, cut), folder, names, "0" * 40)


def test_a_round_is_a_ticket_too(run, tmp_path):
    ticket = load_ticket(run / "round_02")
    assert ticket.mask == Mask.load(run / "round_02" / "mask.safetensors")
    assert ticket.revision is None
    assert ticket.provenance["round"] == 2
    with pytest.raises(ModelError, match="is not a ticket"):
        load_ticket(run / "theta")
    shutil.copy(run / "round_01" / "mask.safetensors", run / "round_02")
    with pytest.raises(MaskError, match=r"not the mask that metrics\.json names"):
        load_ticket(run / "round_02")
    assert json.loads((run / "round_02" / "metrics.json").read_text())["round"] == 2
