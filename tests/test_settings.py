"""Settings: files and overrides, refusals by name, and folders that belong to one run."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from audio_lottery.config import CorpusConfig, RunConfig, SuiteConfig
from audio_lottery.errors import ConfigError, RunError
from audio_lottery.settings import make_parser, parse_config, save_config, to_yaml

CONFIGS = sorted((Path(__file__).parents[1] / "recipes" / "configs").glob("*.yaml"))


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("seed: 3\ntraining: {max_steps: 10}\ndata: {train: [{corpus: jsonl, split: train}]}\n")
    return path


def test_a_file_and_overrides(file):
    config = parse_config(["--config", str(file), "--training.learning_rate", "1e-4", "--model.overrides.a", "0.5"])
    assert (config.seed, config.training.max_steps, config.training.learning_rate) == (3, 10, 1e-4)
    assert config.data.train == (CorpusConfig("jsonl", "train"),)
    assert config.model.overrides == {"a": 0.5}


def test_a_list_is_replaced_and_not_merged_with_the_list_before(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("training: {max_steps: 1}\ndata: {train: [{corpus: jsonl, split: a, path: p, limit: 3}]}\n")
    config = parse_config(["--config", str(path), "--data.train", "[{corpus: jsonl, split: b}]"])
    assert config.data.train == (CorpusConfig("jsonl", "b"),)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_shipped_config_parses(path):
    config = parse_config(["--config", str(path)])
    assert to_yaml(config)


def test_resolved_settings_read_back_the_same(file, tmp_path):
    config = parse_config(["--config", str(file)])
    (tmp_path / "resolved.yaml").write_text(to_yaml(config))
    assert parse_config(["--config", str(tmp_path / "resolved.yaml")]) == config


def test_every_field_has_a_help_text():
    text = make_parser().format_help()
    for section in ("data", "model", "theta.training", "training.specaugment", "pruning", "evaluation"):
        assert f"--{section}." in text
    assert "share of the remaining weights" in text


@pytest.mark.parametrize(
    ("content", "key"),
    [
        ("training: {max_step: 3}", "max_step"),
        ("colour: red", "colour"),
        ("seed: many", "seed"),
        ("data: {train: [{corpus: x, splt: y}]}", "splt"),
        ("precision: bf8", "precision"),
        ("data: [", "parsing config"),
    ],
)
def test_unknown_keys_and_wrong_types_are_named(tmp_path, content, key):
    path = tmp_path / "c.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=key) as caught:
        parse_config(["--config", str(path)])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--training.epochs", "2"], "exactly one of max_steps and epochs"),
        (["--training.max_batch_seconds", "0"], "max_batch_seconds is 0"),
        (["--search.rounds", "-1"], "rounds is -1"),
        (["--data.test", "[]"], "data.test names no corpus"),
        (["--theta.train", "[{corpus: jsonl, split: a}]"], "theta.dev names no corpus"),
        (["--evaluation.suites", "[{name: noisy, noise: white, snr_db: 3}]"], "one suite named clean"),
        (["--evaluation.suites", "[{name: clean}, {name: clean}]"], "name twice"),
        (["--evaluation.suites", "[{name: clean}, {name: n, noise: white}]"], "noise and snr_db go together"),
        (["--evaluation.suites", "[{name: clean}, {name: ../n}]"], "letters, digits"),
    ],
)
def test_impossible_values_are_named(file, arguments, message):
    with pytest.raises(ConfigError, match=message):
        parse_config(["--config", str(file), *arguments])


def test_a_run_folder_belongs_to_its_settings(tmp_path):
    config = RunConfig(run_dir=str(tmp_path / "run"))
    save_config(config, tmp_path / "run")
    save_config(config, tmp_path / "run")
    save_config(replace(config, search=replace(config.search, rounds=9)), tmp_path / "run")
    other = replace(config, evaluation=replace(config.evaluation, suites=(SuiteConfig("clean"),)), seed=7)
    with pytest.raises(RunError, match=r"evaluation\.suites .* seed \(0 there, 7 now\)"):
        save_config(other, tmp_path / "run")
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["seed"] == 0
