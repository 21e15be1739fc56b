"""Bootstrap intervals: coverage by simulation, pairing, speakers, degenerate sets."""

import numpy as np
import pytest

from audio_lottery.errors import ConfigError, TextError
from audio_lottery.evaluation import bootstrap
from audio_lottery.evaluation.bootstrap import (
    difference_interval,
    mean_difference_interval,
    resample_sums,
    wer_interval,
)
from audio_lottery.evaluation.counts import ErrorCounts, count_errors


def system(errors: list[int], words: int = 10, speakers: list[str] | None = None) -> ErrorCounts:
    """Utterances of ``words`` words of which the first ``errors[i]`` are wrong."""
    reference = " ".join(f"w{i}" for i in range(words))
    hypotheses = [" ".join(["x"] * wrong + reference.split()[wrong:]) for wrong in errors]
    ids = [f"u{i:03d}" for i in range(len(errors))]
    return count_errors(ids, [reference] * len(ids), hypotheses, "none", speakers=speakers)


def coverage(trials: int, draw, truth: float) -> float:
    """How often the 95 % interval of (errors, words) per unit holds the truth."""
    held = 0
    for trial in range(trials):
        errors, words = draw()
        sums = resample_sums(np.column_stack([errors, words]).astype(float), 600, seed=trial)
        low, high = bootstrap._percentiles(sums[:, 0] / sums[:, 1], 0.95)
        held += low <= truth <= high
    return held / trials


def test_coverage_over_utterances_is_95_percent() -> None:
    """500 test sets of 400 utterances, 3 to 24 words, whose error rates differ (beta, mean 10 %)."""
    rng = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        words = rng.integers(3, 25, 400)
        return rng.binomial(words, rng.beta(1, 9, 400)), words

    assert coverage(500, draw, 0.1) == pytest.approx(0.95, abs=0.02)


def test_speakers_need_blocks_of_speakers() -> None:
    """20 utterances each of 50 speakers who differ: an interval over utterances is far too narrow."""
    rng = np.random.default_rng(0)

    def draw() -> tuple[np.ndarray, np.ndarray]:
        words = rng.integers(3, 25, (50, 20))
        return rng.binomial(words, rng.beta(4, 36, 50)[:, None]), words

    def by_speaker() -> tuple[np.ndarray, np.ndarray]:
        errors, words = draw()
        return errors.sum(axis=1), words.sum(axis=1)

    def by_utterance() -> tuple[np.ndarray, np.ndarray]:
        errors, words = draw()
        return errors.ravel(), words.ravel()

    assert coverage(150, by_speaker, 0.1) > 0.89
    assert coverage(40, by_utterance, 0.1) < 0.75


def test_the_interval_matches_the_normal_approximation() -> None:
    rng = np.random.default_rng(1)
    counts = system(rng.binomial(10, 0.2, 500).tolist())
    bounds = wer_interval(counts, resamples=4000).bounds
    assert bounds is not None
    spread = 1.96 * np.std(counts.words.errors / 10) / np.sqrt(500)
    assert bounds == pytest.approx((counts.wer - spread, counts.wer + spread), abs=0.1 * spread)


def test_same_seed_same_interval_in_any_order() -> None:
    counts = system([0, 1, 2, 3, 4, 5, 0, 0, 1, 9] * 3)
    shuffled = counts.take(np.random.default_rng(0).permutation(30))
    assert wer_interval(counts) == wer_interval(counts) == wer_interval(shuffled)
    assert wer_interval(counts) != wer_interval(counts, seed=1)


def test_blocks_bound_the_memory_and_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = system([0, 1, 2, 5, 3] * 5)
    before = wer_interval(counts)
    monkeypatch.setattr(bootstrap, "_CELLS", 70)  # two resamples at a time
    assert wer_interval(counts) == before


def test_utterances_are_weighted_by_their_words() -> None:
    """Every resample divides summed errors by summed words: one long bad utterance dominates."""
    ids = ["long", "short"]
    counts = count_errors(ids, ["a b c d e f g h i", "j"], ["z z z z z z z z z", "j"], "none")
    # Drawn: long twice 1.0, both 0.9, short twice 0.0
    assert wer_interval(counts).bounds == (0.0, 1.0)


def test_resamples_without_a_reference_word_are_left_out() -> None:
    counts = count_errors(["a", "b"], ["", "x"], ["noise", "x"], "none")
    # Both 1.0, the second twice 0.0; the first twice has no reference word.
    assert wer_interval(counts).bounds == (0.0, 1.0)


@pytest.mark.parametrize(
    ("speakers", "note"),
    [
        (["s"] * 4, "no interval over speakers: there is only one"),
        (None, "no interval over speakers: no utterance has a speaker"),
        (["s", "t", "", "s"], "no interval over speakers: 1 utterances have no speaker"),
    ],
)
def test_no_interval_over_speakers(speakers: list[str] | None, note: str) -> None:
    counts = system([0, 1, 2, 3], speakers=speakers)
    interval = wer_interval(counts, by="speakers")
    assert interval.bounds is None
    assert interval.to_list() is None
    assert interval.note == note
    assert wer_interval(counts).bounds is not None


def test_few_speakers_are_mentioned() -> None:
    few = wer_interval(system([0, 1, 2, 3], speakers=["s", "s", "t", "t"]), by="speakers")
    assert few.bounds == (0.05, 0.25)
    assert (few.units, few.note) == (2, "only 2 speakers: the interval over speakers is too narrow")
    many = system([0, 1] * 20, speakers=[f"s{i}" for i in range(40)])
    assert wer_interval(many, by="speakers").note == ""


def test_one_utterance_has_no_interval() -> None:
    assert wer_interval(system([3])).bounds is None
    assert "only one" in wer_interval(system([3])).note


def test_a_paired_difference_is_narrower_than_two_intervals() -> None:
    """System b makes one more error in every second utterance, whatever the utterance's difficulty."""
    rng = np.random.default_rng(0)
    easy = rng.integers(0, 8, 200)
    worse = easy + np.arange(200) % 2
    difference = difference_interval(system(worse.tolist()), system(easy.tolist()))
    assert difference.difference == pytest.approx(0.05)
    low, high = difference.interval.bounds or (0.0, 0.0)
    assert 0.04 < low < 0.05 < high < 0.06
    assert difference.relative == pytest.approx(0.05 / (easy.sum() / 2000))
    assert difference.probability_of_improvement == 0.0
    assert difference.interval_speakers.bounds is None
    back = difference_interval(system(easy.tolist()), system(worse.tolist()))
    assert back.interval.bounds == pytest.approx((-high, -low))
    assert back.probability_of_improvement == 1.0


def test_utterances_are_paired_by_id() -> None:
    one, other = system([0, 1, 2, 3]), system([0, 1, 2, 3])
    difference = difference_interval(one, other.take(np.array([3, 1, 0, 2])))
    assert difference.difference == 0
    assert difference.interval.bounds == (0.0, 0.0)


def test_a_perfect_baseline_has_no_relative_difference() -> None:
    difference = difference_interval(system([0, 1]), system([0, 0]))
    assert difference.relative is None
    assert difference.interval_relative.bounds is None
    assert "makes no error" in difference.interval_relative.note
    assert difference.to_dict()["interval_relative"] is None


def test_seeds_are_averaged_and_resampled_together() -> None:
    """Two seeds whose differences cancel utterance by utterance: their mean is certain."""
    dense = system([1] * 20)
    up, down = system([2, 0] * 10), system([0, 2] * 10)
    mean = mean_difference_interval([(up, dense), (down, dense)])
    assert mean.difference == 0
    assert mean.interval.bounds == pytest.approx((0.0, 0.0), abs=1e-12)
    assert difference_interval(up, dense).interval.bounds != pytest.approx((0.0, 0.0), abs=1e-3)


def test_different_utterances_cannot_be_compared() -> None:
    with pytest.raises(TextError, match=r"the second system lacks 1 utterance \(u003\) of the first system"):
        difference_interval(system([0] * 4), system([0] * 3))


def test_bad_settings() -> None:
    with pytest.raises(ConfigError, match="10 bootstrap resamples are too few"):
        wer_interval(system([0, 1]), resamples=10)
    with pytest.raises(ConfigError, match="confidence 95 is not between 0 and 1"):
        wer_interval(system([0, 1]), confidence=95)
