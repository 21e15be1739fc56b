"""Configs and suites by name: what is found, what wins, and what is said when nothing is."""

from pathlib import Path

import pytest

from audio_lottery import shipped
from audio_lottery.cli import main
from audio_lottery.errors import ConfigError
from audio_lottery.settings import parse_config

RECIPES = Path(__file__).parents[1] / "recipes"
MINI = ["--config", "w2v2_mini"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """No test may lean on the folder that it happens to be started in."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("kind", ["config", "suite", "grid"])
def test_every_file_has_a_name_and_a_summary(kind):
    files = {shipped.find(kind, name) for name in shipped.names(kind)}
    assert files == set((RECIPES / f"{kind}s").rglob("*.y*ml"))
    for path in files:
        assert 10 < len(shipped.summary(path)) < 130, path
        assert shipped.summary(path).endswith("."), path


def test_no_config_is_called_like_a_suite():
    assert not set(shipped.names("config")) & set(shipped.names("suite"))


@pytest.mark.parametrize("name", shipped.names("config"))
def test_every_config_parses_in_an_empty_folder(name):
    base = MINI if name.startswith("methods/") else []
    config = parse_config([*base, "--config", name])
    assert config.run_dir.startswith("runs/")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("w2v2_mini", "w2v2_mini.yaml"),
        ("w2v2_mini.yaml", "w2v2_mini.yaml"),
        ("methods/lamp", "methods/lamp.yaml"),
        ("methods/lamp.yaml", "methods/lamp.yaml"),
    ],
)
def test_a_name_with_and_without_suffix(name, path):
    assert shipped.resolve("config", name) == RECIPES / "configs" / path


@pytest.mark.parametrize("name", ["w2v2_mini", "w2v2_mini.yaml"])
def test_a_file_of_ones_own_wins(name, tmp_path):
    (tmp_path / "w2v2_mini.yaml").write_text("seed: 77")
    assert parse_config([*MINI, "--config", name, "--training.max_steps", "1"]).seed == 77


def test_a_folder_of_that_name_does_not_win(tmp_path):
    (tmp_path / "w2v2_mini").mkdir()
    assert parse_config(MINI).seed == 1


def test_settings_may_be_given_as_yaml_instead_of_a_file():
    assert parse_config([*MINI, "--config", "{seed: 9}"]).seed == 9


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("w2v2_mimi", "'w2v2_mimi': no such file, and no config .* the nearest are w2v2_mini, "),
        ("lamp", "'lamp': no such file, .* the nearest are methods/lamp, "),
        ("confs/w2v2_an.yaml", "no such file, .* the nearest are w2v2_an4, "),
        ("generated", "no config of the package has that name"),
        ("", "'': no such file"),
        ("x" * 300, "no such file"),
        (".", "'.' is a folder; give a YAML file in it"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest(name, message):
    with pytest.raises(ConfigError, match=message) as caught:
        parse_config(["--config", name])
    assert "\n" not in str(caught.value)


def test_an_installation_without_recipes_says_so(monkeypatch, tmp_path):
    monkeypatch.setattr(shipped, "__file__", str(tmp_path / "audio_lottery" / "shipped.py"))
    with pytest.raises(ConfigError, match="installed without its configs"):
        parse_config(["--config", "w2v2_mini"])


def test_the_command_lists_prints_and_copies(capsys, tmp_path):
    assert main(["recipes"]) == 0
    listed = capsys.readouterr().out
    for name in [*shipped.names("config"), *shipped.names("suite")]:
        assert f"\n  {name} " in listed
    assert main(["recipes", "methods/lamp"]) == 0
    content = (RECIPES / "configs" / "methods" / "lamp.yaml").read_text()
    assert capsys.readouterr().out == content
    assert main(["recipes", "methods/lamp.yaml", "--out", "new/mine.yaml"]) == 0
    assert (tmp_path / "new" / "mine.yaml").read_text() == content


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["generatd"], "no recipe is called 'generatd'; the nearest are generated, "),
        (["--out", "x.yaml"], "--out needs the NAME"),
        (["w2v2_mini", "--out", "there.yaml"], "there.yaml is there already"),
    ],
)
def test_what_the_command_refuses(arguments, message, capsys, tmp_path):
    (tmp_path / "there.yaml").write_text("mine")
    assert main(["recipes", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert (tmp_path / "there.yaml").read_text() == "mine"
