"""One search at a time works in a run folder."""

import pytest

from audio_lottery.config import PruningConfig, SearchConfig
from audio_lottery.errors import RunError
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.lottery.search import search
from audio_lottery.storage import file_lock
from tests.lottery.test_backbones import TINY
from tests.lottery.test_methods import settings


def test_a_second_search_in_the_folder_of_one_that_runs_is_refused(tiny_corpus, tmp_path):
    run = tmp_path / "run"
    config = settings(tiny_corpus, run, PruningConfig(), model=TINY["cnn_lstm"], search=SearchConfig(rounds=0))
    with pytest.raises(RunError, match="run: another search works in this folder; wait for it, or stop it"):
        search(config, on_round=lambda rows, path: search(config))
    assert (run / "round_00" / "done").is_file()
    assert search(config), "the lock is gone with the search"


def test_a_lock_waits_or_says_what_it_means(tmp_path):
    path = RunFolder(tmp_path).lock
    with file_lock(path) as held:
        assert held
        with pytest.raises(RunError, match="somebody is here"), file_lock(path, "somebody is here"):
            pass
    with file_lock(path, "somebody is here") as held:
        assert held
