"""Suites from words and from YAML."""

from pathlib import Path

import pytest

from audio_lottery.config import SuiteConfig
from audio_lottery.data.noise import parse_suites
from audio_lottery.errors import ConfigError

RECIPES = Path(__file__).parents[3] / "recipes" / "suites"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("musan/noise", "my rooms", "rir", "a+b", "noise", "rirs"):
        (tmp_path / name).mkdir(parents=True)
    return tmp_path


GENERATED = {"rir": "generated"}


@pytest.mark.parametrize(
    ("spec", "suites"),
    [
        ("clean", [SuiteConfig("clean")]),
        ("white@20,10", [SuiteConfig("white20", "white", 20.0), SuiteConfig("white10", "white", 10.0)]),
        ("pink@10dB", [SuiteConfig("pink10", "pink", 10.0)]),
        ("pink@ 10 dB, 5DB", [SuiteConfig("pink10", "pink", 10.0), SuiteConfig("pink5", "pink", 5.0)]),
        ("babble@20,0dB", [SuiteConfig("babble20", "babble", 20.0), SuiteConfig("babble0", "babble", 0.0)]),
        ("white@-5", [SuiteConfig("white-5", "white", -5.0)]),
        ("white@2.5", [SuiteConfig("white2_5", "white", 2.5)]),
        ("musan/noise@20", [SuiteConfig("noise20", "musan/noise", 20.0)]),
        ("my rooms@20", [SuiteConfig("my_rooms20", "my rooms", 20.0)]),
        ("a+b@1", [SuiteConfig("a_b1", "a+b", 1.0)]),
        ("rir@7", [SuiteConfig("rir7", "rir", 7.0)]),
        ("rir", [SuiteConfig("rir", rir="generated")]),
        ("rir:my rooms", [SuiteConfig("rir-my_rooms", rir="my rooms")]),
        ("rir:a+b", [SuiteConfig("rir-a_b", rir="a+b")]),
        ("rir+pink@10", [SuiteConfig("rir-pink10", "pink", 10.0, "generated")]),
        ("rir:rir+musan/noise@10", [SuiteConfig("rir-rir-noise10", "musan/noise", 10.0, "rir")]),
        ("rir:a+b+pink@10", [SuiteConfig("rir-a_b-pink10", "pink", 10.0, "a+b")]),
    ],
)
def test_words(spec: str, suites: list[SuiteConfig], root: Path) -> None:
    assert parse_suites([spec], root) == tuple(suites)


def test_an_absolute_folder(root: Path) -> None:
    assert parse_suites([f"{root}/musan/noise@3"], Path("elsewhere"))[0].name == "noise3"


def test_specs_are_joined_in_order(root: Path) -> None:
    names = [suite.name for suite in parse_suites(["white@0", "clean", "rir"], root)]
    assert names == ["white0", "clean", "rir"]


@pytest.mark.parametrize(
    ("specs", "message"),
    [
        ([], "no test suite is named"),
        (["white"], "test suite 'white': not understood; give clean, NOISE@"),
        ([""], "test suite '': not understood"),
        (["white@"], "test suite 'white@': '' is not a signal-to-noise ratio"),
        (["white@ten"], "'ten' is not a signal-to-noise ratio in dB"),
        (["white@10,"], "'' is not a signal-to-noise ratio"),
        (["white@nan"], "snr_db must be a number"),
        (["white@inf"], "snr_db must be a number"),
        (["@10"], "names no folder"),
        (["rir:"], "names no folder"),
        (["rir+@10"], "names no folder"),
        (["rir:a@10"], "names no folder"),
        (["whit@10"], "no such folder: .*whit; give a folder, or white, pink, babble"),
        (["rir:rooms"], "no such folder: .*rooms; give a folder, or generated"),
        (["white@10", "white@10dB"], "two test suites are named white10"),
        (["nowhere.yaml"], "'nowhere.yaml': no such file, .* the nearest are"),
        (["generatd"], "'generatd': not understood; give .* a name that `audio-lottery recipes` lists"),
    ],
)
def test_wrong_words(specs: list[str], message: str, root: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_suites(specs, root)


def from_yaml(text: str, root: Path) -> tuple[SuiteConfig, ...]:
    (root / "suites.yaml").write_text(text, encoding="utf-8")
    return parse_suites([str(root / "suites.yaml")], root)


def test_yaml(root: Path) -> None:
    text = """
suites:
  - {name: clean}
  - {name: noise, noise: musan/noise, snr_db: [20, 2.5], noise_part: all}
  - {name: far, noise: pink, snr_db: 10, rir: my rooms}
"""
    assert from_yaml(text, root) == (
        SuiteConfig("clean"),
        SuiteConfig("noise20", "musan/noise", 20.0, noise_part="all"),
        SuiteConfig("noise2_5", "musan/noise", 2.5, noise_part="all"),
        SuiteConfig("far", "pink", 10.0, "my rooms"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("suites: [", "suites.yaml: not YAML"),
        ("", "must hold one key, suites"),
        ("- {name: clean}", "must hold one key, suites"),
        ("suites: {name: clean}", "must hold one key, suites"),
        ("suites: [{name: clean}]\nseed: 1", "must hold one key, suites"),
        ("suites: []", "the list of suites is empty"),
        ("suites: [clean]", "suite 1: must have the fields name, noise, snr_db, rir, noise_part, and is 'clean'"),
        ("suites: [{name: clean}, {name: n, snr: 3}]", r"suites.yaml: suite 2 \('n'\): unknown field snr"),
        ("suites: [{noise: white, snr_db: 3}]", "suite 1: name must be text of letters, digits, - and _, and is None"),
        ("suites: [{name: 10}]", "name must be text"),
        ("suites: [{name: a b}]", "name must be text"),
        ("suites: [{name: n, noise: no, snr_db: 3}]", "noise must be text, and is False"),
        ("suites: [{name: n, rir: ''}]", "rir must be text, and is ''"),
        ("suites: [{name: n, noise: white}]", r"suite 1 \('n'\): noise and snr_db go together"),
        ("suites: [{name: n, snr_db: 3}]", "noise and snr_db go together"),
        ("suites: [{name: n, noise: white, snr_db: 3dB}]", "snr_db must be a number of dB, .* and is '3dB'"),
        ("suites: [{name: n, noise: white, snr_db: [3, yes]}]", "snr_db must be a number of dB, .* and is True"),
        ("suites: [{name: n, noise: white, snr_db: []}]", "snr_db is an empty list"),
        ("suites: [{name: n, noise: white, snr_db: 3, noise_part: train}]", "noise_part must be test or all"),
        ("suites: [{name: n, noise: gone, snr_db: 3}]", r"suite 1 \('n'\): no such folder"),
        ("suites: [{name: n}, {name: n}]", "two test suites are named n"),
    ],
)
def test_wrong_yaml_is_one_line(text: str, message: str, root: Path) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        from_yaml(text, root)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "suites"),
    [
        ("generated", "clean white20 white10 white5 white0 pink20 pink10 pink5 pink0"),
        ("babble", "clean babble20 babble10 babble5 babble0 rir rir-babble20 rir-babble10"),
        ("musan", "clean noise20 noise10 noise5 noise0 rir rir-noise20 rir-noise10"),
    ],
)
def test_ready_made(name: str, suites: str, root: Path) -> None:
    assert " ".join(suite.name for suite in parse_suites([name], root)) == suites
    assert parse_suites([str(RECIPES / f"{name}.yaml")], root) == parse_suites([name], root)
