"""Tickets chosen on dev, reported on test, from run folders made by hand."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from audio_lottery.errors import AudioLotteryError, ConfigError, RunError, TextError
from audio_lottery.evaluation.bootstrap import Difference, Interval
from audio_lottery.evaluation.compare import Aggregate
from audio_lottery.evaluation.wer import evaluate_texts
from audio_lottery.lottery.select import select, why_not
from audio_lottery.storage import sealed_folder, write_bytes, write_json

UTTERANCES = 200
REFERENCE = "one two three four five six seven eight nine ten"
IDS = [f"u{i:03d}" for i in range(UTTERANCES)]
Wrong = Mapping[int, int]
"""Utterance → wrong words in it."""


def spread(first: int, last: int, each: int = 1) -> dict[int, int]:
    return dict.fromkeys(range(first, last), each)


# On dev, of 2000 words. Dense: 100 errors, one in each of utterances 0 to 99.
DENSE = spread(0, 100)
BETTER = spread(30, 100)  # 30 errors fewer, in 30 utterances: significantly better
EQUAL = spread(1, 101)  # another utterance is wrong
WITHIN = spread(0, 105) | {104: 0, 103: 0}  # 3 errors more in 3 utterances: 0.15 points, not significant
SIGNIFICANT = spread(0, 108)  # 8 errors more in 8 utterances: 0.4 points, but certain
BEYOND = spread(20, 132)  # 32 errors more, 20 fewer: 0.6 points, not significant


def write_round(
    run: Path, number: int, dev: Wrong, test: Wrong, *, speakers: bool = True, with_dev: bool = True
) -> None:
    metrics = {"remaining_percent": 100 * 0.8**number, "mask_sha256": f"mask{number}", "test": {}}
    with sealed_folder(run / f"round_{number:02d}") as folder:
        for name, wrong in (("dev", dev), ("clean", test)):
            hypotheses = [" ".join(["no"] * (n := wrong.get(i, 0)) + REFERENCE.split()[n:]) for i in range(UTTERANCES)]
            result = evaluate_texts(IDS, [REFERENCE] * UTTERANCES, hypotheses, None, "basic").to_dict()
            if name == "dev":
                metrics["dev"] = result
            else:
                metrics["test"]["clean"] = result
            if name == "dev" and not with_dev:
                continue
            lines = ["id\treference\thypothesis" + ("\tspeaker" if speakers else "")]
            for i, hypothesis in enumerate(hypotheses):
                lines.append(f"{IDS[i]}\t{REFERENCE}\t{hypothesis}" + (f"\ts{i % 25}" if speakers else ""))
            write_bytes(folder / "hypotheses" / f"{name}.tsv", ("\n".join(lines) + "\n").encode())
        write_json(folder / "metrics.json", metrics)


def write_run(path: Path, rounds: list[tuple[Wrong, Wrong]], seed: int = 0, **options: bool) -> Path:
    config = {"run_dir": str(path), "seed": seed, "training": {"learning_rate": 0.1, "log_every": seed}}
    write_bytes(path / "config.yaml", yaml.safe_dump(config).encode())
    for number, (dev, test) in enumerate(rounds):
        write_round(path, number, dev, test, **options)
    return path


def test_winning_best_and_extreme(tmp_path: Path) -> None:
    rounds = [DENSE, EQUAL, BETTER, SIGNIFICANT, WITHIN, BEYOND]
    # On test the order is the other way round: it must not matter.
    run = write_run(tmp_path / "run", [(wrong, spread(0, 180 - 30 * k)) for k, wrong in enumerate(rounds)])
    found = select([run])
    assert [ticket.reason for ticket in found.tickets] == ["", "", "", "worse over utterances", "", "margin"]
    assert [ticket.round for ticket in found.winning] == [1, 2, 4]
    assert found.best is found.tickets[2]
    assert found.extreme is found.tickets[4]
    best = found.best
    assert best is not None
    assert best.dev.wer.mean == 70 / 2000
    assert best.dev.difference is not None
    assert best.dev.difference.difference == pytest.approx(-0.015)
    assert best.dev.difference_bounds is not None
    assert best.dev.difference_bounds[1] < 0  # significantly better, and it matches
    assert best.test.wer.mean == 120 / 2000
    # 180 segments, one per utterance with an error; in 60 of them the ticket makes one error fewer.
    assert (best.test.mapsswe[0].segments, best.test.mapsswe[0].verdict) == (180, "better")
    assert best.dev.difference.interval_speakers.bounds is not None
    assert best.remaining_percent == pytest.approx(64)


def test_the_margin_decides_what_is_not_significant(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [(DENSE, DENSE), (BEYOND, DENSE), (WITHIN, DENSE)])
    assert [ticket.round for ticket in select([run]).winning] == [2]
    assert [ticket.round for ticket in select([run], margin=0.01).winning] == [1, 2]
    assert select([run], margin=0.001).extreme is None


def test_no_ticket_wins(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [(DENSE, DENSE), (spread(0, 150), DENSE), (spread(0, 190), DENSE)])
    found = select([run])
    assert found.winning == ()
    assert found.extreme is None
    assert found.best is not None
    assert (found.best.round, found.best.matches) == (1, False)


def test_of_equals_the_sparser_is_best(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [(DENSE, DENSE), (EQUAL, DENSE), (EQUAL, DENSE)])
    found = select([run])
    assert found.best is found.extreme is found.tickets[2]


def test_old_files_without_speakers(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [(DENSE, DENSE), (EQUAL, DENSE)], speakers=False)
    difference = select([run]).tickets[1].dev.difference
    assert difference is not None
    assert difference.interval.bounds is not None
    assert difference.interval_speakers.bounds is None


def test_seeds_are_aggregated_by_round(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "s0", [(DENSE, DENSE), (spread(0, 104), DENSE), (DENSE, DENSE)], seed=0),
        write_run(tmp_path / "s1", [(spread(0, 120), DENSE), (spread(0, 116), DENSE)], seed=1),
    ]
    found = select(runs)
    assert found.seeds == (0, 1)
    assert [ticket.round for ticket in found.tickets] == [0, 1]  # round 2 is not in both
    ticket = found.tickets[1]
    assert ticket.dev.wer.mean == pytest.approx(110 / 2000)
    assert ticket.dev.wer.n == 2
    # Each against its own dense model: +4 and -4 errors.
    assert ticket.dev.difference is not None
    assert ticket.dev.difference.difference == pytest.approx(0)
    assert ticket.dev.over_seeds is not None
    assert ticket.dev.over_seeds.deviation == pytest.approx(0.002 * 2**0.5)
    assert len(ticket.test.mapsswe) == 2
    assert json.loads(json.dumps(found.to_dict()))["rounds"][1]["matches"] is True


def difference(value: float, low: float, high: float) -> Difference:
    none = Interval(None, 0)
    return Difference(value, Interval((low, high), 200), none, None, none, None)


@pytest.mark.parametrize(
    ("found", "over_seeds", "reason"),
    [
        (difference(0.002, -0.001, 0.005), None, ""),
        (difference(0.002, 0.0, 0.004), None, ""),  # the interval touches zero
        (difference(0.002, 0.001, 0.003), None, "worse over utterances"),
        (difference(-0.02, -0.03, -0.01), None, ""),  # significantly better
        (difference(0.005, -0.1, 0.1), None, "margin"),  # below, not at, the margin
        (difference(0.01, 0.005, 0.015), None, "worse over utterances, margin"),
        (difference(0.002, -0.001, 0.005), Aggregate(3, 0.002, 0.0001, (0.0018, 0.0022)), "worse over seeds"),
        (difference(0.002, -0.001, 0.005), Aggregate(3, 0.002, 0.01, (-0.02, 0.03)), ""),
        (difference(0.002, -0.001, 0.005), Aggregate(1, 0.002, None, None), ""),
        (
            Difference(0.0, Interval(None, 1, "only one"), Interval(None, 0), None, Interval(None, 0), None),
            None,
            "only one",
        ),
    ],
)
def test_what_matching_means(found: Difference, over_seeds: Aggregate | None, reason: str) -> None:
    assert why_not(found, over_seeds, 0.005) == reason


def test_changed_transcripts_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = write_run(tmp_path / "run", [(DENSE, DENSE), (EQUAL, DENSE)])
    path = run / "round_01" / "hypotheses" / "dev.tsv"
    path.write_text(path.read_text().replace("no two", "one two"))
    with caplog.at_level("WARNING"):
        assert select([run]).tickets[1].dev.wer.mean == 0
    assert "gives a WER of 0.0000 and metrics.json says 0.0500" in caplog.text


def test_an_old_run_without_dev_transcripts(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [(DENSE, DENSE), (EQUAL, DENSE)], with_dev=False)
    with pytest.raises(RunError, match=r"hypotheses/dev.tsv is missing.*run the search again into a new folder"):
        select([run])


@pytest.mark.parametrize("margin", [-0.001, 0.5])
def test_a_margin_in_points_is_refused(margin: float) -> None:
    with pytest.raises(ConfigError, match=r"it is a fraction between 0 and 0.1: 0.005 is half a point"):
        select([], margin=margin)


def test_no_folder() -> None:
    with pytest.raises(ConfigError, match="no run folder"):
        select([])


def test_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is not a run folder"):
        select([tmp_path])
    write_bytes(tmp_path / "config.yaml", b"a: [")
    with pytest.raises(RunError, match=r"config.yaml is not YAML"):
        select([tmp_path])


def test_rounds_that_are_needed(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [])
    with pytest.raises(RunError, match="has no finished round_00, the dense model"):
        select([run])
    write_round(run, 0, DENSE, DENSE)
    with pytest.raises(RunError, match="has the dense model only"):
        select([run])


def test_unknown_suite(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [(DENSE, DENSE), (EQUAL, DENSE)])
    with pytest.raises(RunError, match="round_00 was not tested on suite 'noise10'; there are: clean"):
        select([run], suite="noise10")


def test_runs_must_be_seeds_of_one_configuration(tmp_path: Path) -> None:
    rounds = [(DENSE, DENSE), (EQUAL, DENSE)]
    first, second = write_run(tmp_path / "a", rounds), write_run(tmp_path / "b", rounds)
    with pytest.raises(RunError, match="have the same seed 0"):
        select([first, second])
    config = yaml.safe_load((second / "config.yaml").read_text()) | {"seed": 1, "training": {"learning_rate": 0.2}}
    (second / "config.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(RunError, match=r"differ in training\.learning_rate \(0\.1 and 0\.2\)"):
        select([first, second])


def test_a_setting_that_one_run_is_too_old_for_had_its_default(tmp_path: Path) -> None:
    rounds = [(DENSE, DENSE), (EQUAL, DENSE)]
    first, second = write_run(tmp_path / "a", rounds), write_run(tmp_path / "b", rounds, seed=1)
    config = yaml.safe_load((second / "config.yaml").read_text())
    (second / "config.yaml").write_text(yaml.safe_dump(config | {"precision": "no", "pruning": {"rate": 0.2}}))
    assert select([first, second]).seeds == (0, 1)
    (second / "config.yaml").write_text(yaml.safe_dump(config | {"precision": "bf16"}))
    with pytest.raises(RunError, match=r"differ in precision \('no' and 'bf16'\)"):
        select([first, second])


def test_a_damaged_transcript_is_named(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [(DENSE, DENSE), (EQUAL, DENSE)])
    with (run / "round_01" / "hypotheses" / "dev.tsv").open("a") as file:
        file.write("u999\tone\n")
    with pytest.raises(TextError, match=r"dev.tsv:202: 2 columns where the header has 4"):
        select([run])
    (run / "round_01" / "metrics.json").write_text("{")
    with pytest.raises(AudioLotteryError, match=r"metrics.json cannot be read"):
        select([run])
