"""Settings: files and overrides, refusals by name, and folders that belong to one run."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from audio_lottery.config import CorpusConfig, RunConfig, SuiteConfig
from audio_lottery.errors import ConfigError, RunError
from audio_lottery.settings import (
    differing,
    flat_settings,
    make_parser,
    parse_config,
    read_settings,
    save_config,
    to_yaml,
)

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
        ("training: 3", "training is 3; it is a section"),
        ("data: [1]", r"data is \[1\]; it is a section"),
        ("theta: {training: null}", r"theta\.training is None; it is a section"),
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


def older(config: RunConfig, path: Path, change) -> str:
    """A ``config.yaml`` as another version would have written it; returns its text."""
    document = yaml.safe_load(to_yaml(config))
    change(document)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(document))
    return path.read_text()


def without_new_settings(document: dict) -> None:
    """What a version without half of the settings wrote."""
    del document["evaluation"]["bootstrap"], document["training"]["augment"], document["pruning"], document["precision"]
    for corpus in document["data"]["train"]:
        del corpus["columns"], corpus["limit"]


@pytest.fixture
def run(tmp_path) -> RunConfig:
    return RunConfig(run_dir=str(tmp_path / "run"), seed=4)


def test_settings_that_an_old_run_lacks_are_their_defaults(run, tmp_path):
    path = tmp_path / "run" / "config.yaml"
    text = older(run, path, without_new_settings)
    assert read_settings(path) == flat_settings(run)
    save_config(run, path.parent)
    assert path.read_text() == text, "the same run in older words stays as it is"
    with pytest.raises(RunError, match=r"other settings: evaluation\.bootstrap \(1000 there, 500 now\); choose"):
        save_config(replace(run, evaluation=replace(run.evaluation, bootstrap=500)), path.parent)
    assert path.read_text() == text


def test_what_may_change_is_written_and_the_rest_kept(run, tmp_path):
    path = tmp_path / "run" / "config.yaml"
    older(run, path, without_new_settings)
    more = replace(run, search=replace(run.search, rounds=9))
    save_config(more, path.parent)
    assert read_settings(path) == flat_settings(more)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda document: document["training"].update(momentum=0.9),
            r"other settings: training\.momentum \(0\.9, no setting of this version there, not set now\)",
        ),
        (
            lambda document: document["data"]["train"][0].update(weight=2),
            r"data\.train\[0\]\.weight \(2, no setting of this version there, not set now\)",
        ),
        (lambda document: document.update(precision="bf8"), "has a value that this version cannot read.*bf8"),
        (lambda document: document.update(training=3), "has a value that this version cannot read.*training"),
        (
            lambda document: document["model"]["overrides"].update(a=1),
            r"model\.overrides \(\{'a': 1\} there, \{\} now\)",
        ),
    ],
)
def test_settings_that_are_no_more_are_named(run, tmp_path, change, message):
    text = older(run, tmp_path / "run" / "config.yaml", change)
    with pytest.raises(RunError, match=message) as caught:
        save_config(run, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "run" / "config.yaml").read_text() == text


def test_two_runs_with_the_same_forgotten_setting_do_not_differ_in_it(run, tmp_path):
    settings = []
    for number, value in enumerate((1, 1, 2)):
        path = tmp_path / str(number) / "config.yaml"
        older(run, path, lambda document, value=value: document.update(colour=value))
        settings.append(read_settings(path))
    assert differing(settings[0], settings[1]) == []
    assert [(d.name, d.one.value, d.other.value) for d in differing(settings[0], settings[2])] == [("colour", 1, 2)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "is not YAML"),
        (b"- 1", "holds no settings"),
        (b"", "holds no settings"),
        (b"\xff", "is not a run folder"),
    ],
)
def test_a_config_file_that_says_nothing(tmp_path, content, message):
    (tmp_path / "config.yaml").write_bytes(content)
    with pytest.raises(RunError, match=message):
        read_settings(tmp_path / "config.yaml")
