"""Publishing to a Hub on this machine's loopback with the real client, in a process of its own."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file

from audio_lottery.pruning import Mask
from audio_lottery.publish.merge import BEGIN, END
from tests.e2e.conftest import environment, execute
from tests.model_hub import State, model_hub

TOKEN = "hf_aTokenThatNobodyMaySee"
REPO = "somebody/tiny-ticket"
PUBLISHED = {
    "README.md",
    "config.json",
    "curve.png",
    "mask.safetensors",
    "model.safetensors",
    "model.sparse.safetensors",
    "search.yaml",
    "ticket.json",
    "vocab.json",
}


class Outcome:
    """What the driver did, and the Hub afterwards."""

    def __init__(self, folder: Path, run: Path, state: State, printed: str) -> None:
        self.folder, self.run, self.state, self.printed = folder, run, state, printed
        self.results = json.loads((folder / "results.json").read_text())

    def __getitem__(self, name: str):
        return self.results[name]

    def files(self, repo: str = REPO, branch: str = "main") -> dict[str, bytes]:
        held = self.state.repos[repo]
        return held.commits[held.branches[branch]]

    def line(self, name: str) -> str:
        """The one line of a failed publication."""
        result = self[name]
        lines = [line for line in result["err"].splitlines() if line.startswith("audio-lottery: error:")]
        assert result["code"] == 2, result
        assert len(lines) == 1, result
        assert "Traceback" not in result["err"]
        assert "published" not in result["out"]
        return lines[0]


@pytest.fixture(scope="module")
def outcome(published_run, tmp_path_factory) -> Outcome:
    folder = tmp_path_factory.mktemp("hub")
    run = folder / "demo"
    shutil.copytree(published_run, run)
    with model_hub(TOKEN) as (address, state):
        env = environment(
            HF_ENDPOINT=address, HF_HOME=str(folder / "hf"), HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1", HF_TOKEN=TOKEN
        )
        result = execute([sys.executable, str(Path(__file__).with_name("driver.py")), str(run), str(folder)], env=env)
    assert result.returncode == 0, result.stderr
    return Outcome(folder, run, state, result.stdout + result.stderr)


def test_without_a_token_nothing_is_written_or_asked(outcome):
    assert "hf auth login" in outcome.line("no token")
    assert not outcome["no token"]["folder"]
    assert not outcome["no token"]["asked"]


def test_a_dry_run_shows_sizes_and_asks_nothing(outcome):
    result = outcome["dry run"]
    assert result["code"] == 0
    assert not result["asked"]
    assert all(name in result["out"] for name in PUBLISHED)
    assert "private" in result["out"]
    assert "nothing was uploaded" in result["out"]


def test_refusals_are_one_line(outcome):
    assert "does not accept the token (401)" in outcome.line("wrong token")
    assert "the token may not do that (403)" in outcome.line("forbidden")
    assert "changing the repository (409)" in outcome.line("conflict")
    assert not any("commit" in request for request in outcome["forbidden"]["asked"])


def test_a_busy_hub_is_asked_again_and_then_it_is_done(outcome):
    result = outcome["busy for a while"]
    assert result["code"] == 0, result["err"]
    assert sum("repos/create" in request for request in result["asked"]) == 3
    assert sum("/commit/" in request for request in result["asked"]) == 2
    assert result["commits"] == 2  # the first is that of the new repository: all files came in one
    assert "read back, bit for bit" in result["out"]


def test_a_hub_that_stays_busy_ends_the_command(outcome):
    assert "500" in outcome.line("broken")
    assert sum("/commit/" in request for request in outcome["broken"]["asked"]) == 5
    assert "asks to wait 3600 s" in outcome.line("wait an hour")
    assert sum("/commit/" in request for request in outcome["wait an hour"]["asked"]) == 1
    before = outcome["branch"]["commits"]
    assert outcome["broken"]["commits"] == outcome["conflict"]["commits"] == before


def test_the_files_are_those_of_the_round(outcome):
    files = outcome.files(branch="round-02")
    assert set(files) >= PUBLISHED
    assert "metrics.json" not in files
    assert "done" not in files
    for name in ("model.safetensors", "mask.safetensors", "config.json"):
        assert files[name] == (outcome.run / "round_02" / name).read_bytes()
    assert outcome.files()["model.safetensors"] == (outcome.run / "round_01" / "model.safetensors").read_bytes()
    assert str(outcome.folder).encode() not in b"".join(files.values())  # whose machine it was


def test_publishing_the_same_again_makes_no_commit(outcome):
    assert outcome["again"]["code"] == 0, outcome["again"]["err"]
    assert outcome["again"]["commits"] == outcome["busy for a while"]["commits"]
    assert not [request for request in outcome["again"]["asked"] if request.startswith("PUT") or "/commit/" in request]


def test_what_a_human_wrote_into_the_card_stays(outcome):
    assert outcome["edited card"]["code"] == 0, outcome["edited card"]["err"]
    card = ModelCard(outcome.files()["README.md"].decode())
    above, below = card.text.index("A word above."), card.text.index("A word below.")
    assert above < card.text.index(BEGIN) < card.text.index(END) < below
    assert card.text.count(BEGIN) == card.text.count("# tiny") == 1
    assert "round 1 of a search" in card.text
    assert card.data.license == "mit"
    assert card.data["thanks_to"] == "the talkers"
    assert "mine" in card.data.tags
    assert len(card.data.tags) == len(set(card.data.tags))


def test_a_branch_is_a_ticket_of_its_own(outcome):
    assert outcome["branch"]["code"] == 0, outcome["branch"]["err"]
    assert 'revision="round-02"' in outcome["branch"]["out"]
    assert json.loads(outcome.files(branch="round-02")["ticket.json"])["round"] == 2
    assert json.loads(outcome.files()["ticket.json"])["round"] == 1


def test_a_killed_upload_leaves_nothing_and_is_completed(outcome):
    assert outcome["killed"] == {"signal": 9, "commits": 1}  # the empty repository
    assert outcome["after the kill"]["code"] == 0, outcome["after the kill"]["err"]
    assert outcome["after the kill"]["commits"] == 2
    assert set(outcome.files("somebody/killed")) >= PUBLISHED


def test_repositories_are_private_unless_asked(outcome):
    assert outcome.state.repos[REPO].private
    assert outcome["public"]["code"] == 0, outcome["public"]["err"]
    assert not outcome.state.repos["somebody/open"].private
    assert "give --public" in outcome.line("not public")


def test_every_way_of_loading_gives_the_same_bits(outcome):
    loaded = outcome["loaded"]
    expected = load_file(outcome.run / "round_02" / "model.safetensors")
    for name in ("ticket", "plain", "init"):
        found = load_file(outcome.folder / f"{name}.safetensors")
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key].view(torch.uint8), expected[key].view(torch.uint8)) for key in expected)
    assert loaded["mask"] == Mask.load(outcome.run / "round_02" / "mask.safetensors").sha256()
    assert loaded["round"] == 2
    assert loaded["revision"] == outcome.state.repos[REPO].branches["round-02"]
    assert loaded["processor"] == "Wav2Vec2Processor"
    assert loaded["close"]
    assert loaded["trained"]
    assert loaded["card"]["library_name"] == "transformers"
    assert outcome["searched"] == {"rounds": 1}
    served = outcome.files()["model.safetensors"]
    assert (outcome.folder / "again" / "theta" / "model.safetensors").stat().st_size == len(served)


def test_the_token_is_nowhere(outcome):
    assert "403" in outcome["raised"]
    places = {path: path.read_bytes() for path in outcome.folder.rglob("*") if path.is_file()}
    held = [content for repo in outcome.state.repos.values() for files in repo.commits.values() for content in files]
    assert not [path for path, content in places.items() if TOKEN.encode() in content]
    assert TOKEN not in outcome.printed + "".join(map(str, held))
