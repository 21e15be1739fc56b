"""The start of the command line: verbs, exit statuses, and a terminal that shows our own lines only."""

import pytest
from huggingface_hub.utils import are_progress_bars_disabled, enable_progress_bars
from transformers.utils import logging as transformers_logging

from audio_lottery import cli
from audio_lottery.errors import RunError


@pytest.fixture
def bars():
    """Progress bars of other libraries as they are before a command starts."""
    transformers_logging.enable_progress_bar()
    yield
    transformers_logging.enable_progress_bar()
    enable_progress_bars()


def test_a_command_shows_no_bars_of_transformers_and_those_of_downloads(bars):
    assert cli.run(lambda: None) == 0
    assert not transformers_logging.is_progress_bar_enabled()
    assert are_progress_bars_disabled(), "transformers asks this when it is imported later"
    assert not are_progress_bars_disabled("huggingface_hub.http_get")


@pytest.mark.parametrize("decided", [True, False])
def test_bars_are_left_as_they_are_where_the_environment_decides(bars, decided, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_PROGRESS_BARS", decided)
    assert cli.run(lambda: None) == 0
    assert transformers_logging.is_progress_bar_enabled()


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (RunError("no\nsuch   folder"), 2, "audio-lottery: error: no such folder\n"),
        (KeyboardInterrupt(), 130, "audio-lottery: stopped; the same command continues\n"),
    ],
)
def test_an_error_is_one_line_and_a_status(bars, error, status, line, capsys):
    assert cli.run(lambda: fail(error)) == status
    assert capsys.readouterr().err == line


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        ([], 2, "usage: audio-lottery <verb>"),
        (["--help"], 0, "  recipes       list the configs and suites"),
        (["serch"], 2, "there is no verb 'serch'; there are search, "),
    ],
)
def test_verbs(arguments, status, shown, capsys):
    assert cli.main(arguments) == status
    captured = capsys.readouterr()
    assert shown in captured.out + captured.err


@pytest.mark.parametrize("verb", list(cli._VERBS))
def test_every_verb_explains_itself(bars, verb, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main([verb, "--help"])
    assert stopped.value.code == 0
    assert f"audio-lottery {verb}" in capsys.readouterr().out
