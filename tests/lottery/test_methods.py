"""Every method of finding a ticket, on a model small enough to search in seconds: one settings table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from audio_lottery.config import (
    CorpusConfig,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    PruningConfig,
    RuleConfig,
    RunConfig,
    SearchConfig,
    SuiteConfig,
    ThetaConfig,
    TrainingConfig,
    validate,
)
from audio_lottery.errors import AudioLotteryError, ConfigError, MaskError, RunError
from audio_lottery.lottery.methods import check_method
from audio_lottery.lottery.search import search
from audio_lottery.lottery.select import select
from audio_lottery.models.load import load_folder
from audio_lottery.models.wav2vec2 import Wav2Vec2
from audio_lottery.pruning import Mask, ScoreInputs, exact_count, prune
from audio_lottery.report.write import write_report
from audio_lottery.storage import read_json
from audio_lottery.training import loop
from tests.conftest import TINY_MODEL

HALVES = (0.5, 0.25)

# name → settings. Every one is searched and checked.
METHODS: dict[str, PruningConfig] = {
    "imp": PruningConfig(),
    "imp to targets": PruningConfig(targets=HALVES),
    "imp, late rewinding": PruningConfig(rewind="step", rewind_step=3),
    "imp, random": PruningConfig(rewind="random"),
    "imp, permuted": PruningConfig(rewind="permuted"),
    "imp, learning rate rewinding": PruningConfig(rewind="lr"),
    "prune and fine-tune": PruningConfig(rewind="none"),
    "imp, lamp": PruningConfig(score="lamp"),
    "imp, taylor": PruningConfig(score="taylor", calibration=6),
    "imp, movement": PruningConfig(score="movement"),
    "omp, movement, uniform": PruningConfig(method="omp", score="movement", allocation="uniform", targets=HALVES),
    "imp, wanda, uniform": PruningConfig(score="wanda", allocation="uniform", calibration=6),
    "imp, obs": PruningConfig(score="obs", calibration=6),
    "omp, obs, reconstructed": PruningConfig(
        method="omp", score="obs", rewind="reconstruct", targets=HALVES, calibration=6
    ),
    "imp, erk": PruningConfig(allocation="erk", targets=HALVES),
    "imp, uniform_plus": PruningConfig(allocation="uniform_plus", targets=HALVES),
    "imp, rules": PruningConfig(rules=(RuleConfig("k_proj", dense=True), RuleConfig("v_proj", floor=0.7))),
    "imp, blocks 1x4": PruningConfig(pattern="block:1x4"),
    "imp, rows": PruningConfig(pattern="rows"),
    "random": PruningConfig(score="random", allocation="uniform"),
    "omp": PruningConfig(method="omp", targets=HALVES),
    "mpi": PruningConfig(method="mpi", targets=HALVES),
    "gmp": PruningConfig(method="gmp", targets=HALVES, every=2),
    "gmp, equal budget": PruningConfig(method="gmp", targets=HALVES, every=2, equal_budget=True),
    "parp": PruningConfig(method="parp", targets=HALVES, every=3),
    "parp_p": PruningConfig(method="parp_p", targets=HALVES, every=3),
    "dense of equal budget": PruningConfig(control="dense"),
}
# One of each way to make a mask, to start a round and to change a mask in training; patterns and allocations are pure.
RESUMED = [
    "imp",
    "imp, late rewinding",
    "imp, permuted",
    "prune and fine-tune",
    "imp, taylor",
    "imp, movement",
    "omp, obs, reconstructed",
    "random",
    "omp",
    "mpi",
    "gmp",
    "parp",
    "parp_p",
    "dense of equal budget",
]
NESTED = [name for name in METHODS if name.startswith("imp") or name in ("random", "prune and fine-tune")]


def settings(root: Path, run_dir: Path, pruning: PruningConfig, **changes) -> RunConfig:
    def corpus(split: str) -> tuple[CorpusConfig, ...]:
        return (CorpusConfig("jsonl", split),)

    training = TrainingConfig(max_steps=8, max_batch_seconds=8, learning_rate=2e-3, eval_every=4, save_every=8)
    config = RunConfig(
        run_dir=str(run_dir),
        seed=5,
        data=DataConfig(root=str(root), train=corpus("train"), dev=corpus("dev"), test=corpus("test")),
        model=ModelConfig(init="w2v2-mini", overrides=TINY_MODEL),
        theta=ThetaConfig(),
        training=training,
        pruning=pruning,
        search=SearchConfig(rounds=2),
        evaluation=EvaluationConfig(suites=(SuiteConfig("clean"),), bootstrap=100),
    )
    return replace(config, **changes)


def saving_often(config: RunConfig) -> RunConfig:
    """With a checkpoint every second step, which changes no number."""
    return replace(config, training=replace(config.training, save_every=2))


def weights(run: Path, stage: str) -> dict[str, torch.Tensor]:
    return load_file(run / stage / "model.safetensors")


def mask(run: Path, number: int) -> Mask:
    return Mask.load(run / f"round_{number:02d}" / "mask.safetensors")


@pytest.fixture(scope="module")
def runs(tiny_corpus, tmp_path_factory):
    """Finished searches by the name of their method, made when they are asked for."""
    folder, done = tmp_path_factory.mktemp("runs"), {}

    def get(name: str) -> Path:
        if name not in done:
            done[name] = folder / str(len(done))
            search(settings(tiny_corpus, done[name], METHODS[name]))
        return done[name]

    return get


@pytest.mark.parametrize("name", METHODS)
def test_exact_density_and_exact_zeros(runs, name):
    run, method = runs(name), METHODS[name]
    for number in (1, 2):
        found, saved = mask(run, number), weights(run, f"round_{number:02d}")
        density = 1.0 if method.control == "dense" else method.targets[number - 1] if method.targets else 0.8**number
        if method.pattern == "unstructured":
            assert found.kept == exact_count(density, found.prunable)
        else:
            assert found.density() == pytest.approx(density, abs=0.05)
        for tensor, kept in found.items():
            assert not saved[tensor][~kept].any(), tensor
            assert kept.any(), f"{tensor} has lost all its weights"
        metrics = read_json(run / f"round_{number:02d}" / "metrics.json")
        assert metrics["mask_sha256"] == found.sha256()


@pytest.mark.parametrize("name", NESTED)
def test_masks_only_shrink(runs, name):
    run = runs(name)
    assert mask(run, 2).is_subset_of(mask(run, 1))
    assert mask(run, 1).is_subset_of(mask(run, 0))


class Interrupted(Exception):
    """What the test raises instead of a kill."""


@pytest.mark.parametrize("name", RESUMED)
def test_interrupted_and_continued_is_as_uninterrupted(runs, name, tiny_corpus, tmp_path, monkeypatch):
    reference = runs(name)
    config = saving_often(settings(tiny_corpus, tmp_path / "run", METHODS[name]))
    saves = {"count": 0}
    save = loop.save_checkpoint

    def save_then_stop(*arguments):
        save(*arguments)
        saves["count"] += 1
        if saves["count"] in (2, 5, 7):  # in the first round, between, and in the last
            raise Interrupted

    monkeypatch.setattr(loop, "save_checkpoint", save_then_stop)
    for _ in range(3):
        with pytest.raises(Interrupted):
            search(config)
    search(config)
    for number in range(3):
        assert mask(tmp_path / "run", number) == mask(reference, number)
        files = ["model.safetensors"] + ["movement.safetensors"] * (METHODS[name].score == "movement")
        for file in files:
            path = Path(f"round_{number:02d}") / file
            assert (tmp_path / "run" / path).read_bytes() == (reference / path).read_bytes(), path


def test_survivors_start_where_the_rewinding_says(runs, tiny_corpus, tmp_path, monkeypatch):
    """With a learning rate of almost nothing a round ends where it started."""
    trained = runs("imp")
    still = TrainingConfig(max_steps=1, max_batch_seconds=8, learning_rate=1e-30, weight_decay=0.0)
    theta = ModelConfig(init=str(trained / "round_00"))
    ends = {}
    for rewind in ("theta", "random", "permuted", "lr"):
        config = settings(tiny_corpus, tmp_path / rewind, PruningConfig(rewind=rewind), model=theta, training=still)
        search(config)
        ends[rewind] = weights(tmp_path / rewind, "round_02"), mask(tmp_path / rewind, 2)
    start = weights(trained, "round_00")
    for name, kept in ends["theta"][1].items():
        assert torch.equal(ends["theta"][0][name], start[name] * kept)
    for name, kept in ends["permuted"][1].items():
        values = ends["permuted"][0][name][kept]
        assert np.isin(values.numpy(), start[name].numpy()).all()
        assert not torch.equal(ends["permuted"][0][name], start[name] * kept)
    name = "wav2vec2.encoder.layers.0.feed_forward.intermediate_dense.weight"
    random, kept = ends["random"][0][name], ends["random"][1][name]
    assert not np.isin(random[kept].numpy(), start[name].numpy()).any()


@pytest.mark.parametrize(("name", "source"), [("imp, movement", 1), ("omp, movement, uniform", 0)])
def test_movement_ranks_by_the_training_of_the_round_before(runs, name, source):
    run, method = runs(name), METHODS[name]
    scores = load_file(run / f"round_{source:02d}" / "movement.safetensors")
    model = load_folder(run / f"round_{source:02d}").module
    expected = prune(
        model,
        0.25 if method.targets else 0.64,
        score="movement",
        allocation=method.allocation,
        among=mask(run, source),
        score_inputs=ScoreInputs(movement=scores),
    )
    assert mask(run, 2) == expected
    assert any((tensor < 0).any() for tensor in scores.values())
    for tensor, kept in mask(run, source).items():
        assert not scores[tensor][~kept].any(), "a pruned weight does not move"
    # one-shot pruning looks at round 0 only; IMP keeps the last round's scores for rounds to come
    assert (run / "round_02" / "movement.safetensors").exists() == (method.method == "imp")


def test_movement_needs_weights_that_train(tiny_corpus, tmp_path):
    model = ModelConfig(init="w2v2-mini", overrides=TINY_MODEL, freeze_feature_encoder=True)
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig(score="movement"), model=model)
    with pytest.raises(MaskError, match=r"does not train .*feature_extractor.*leave frozen weights out of the scope"):
        search(config)
    assert not (tmp_path / "run" / "round_00").exists()
    exclude = [*Wav2Vec2.heads, "feature_extractor"]
    pruning = PruningConfig(score="movement", exclude=exclude)
    search(replace(config, run_dir=str(tmp_path / "other"), pruning=pruning, search=SearchConfig(rounds=1)))
    assert mask(tmp_path / "other", 1).density() == pytest.approx(0.8, abs=1e-3)


@pytest.mark.parametrize("name", ["dense of equal budget", "gmp, equal budget"])
def test_equal_budgets_are_those_of_a_search_by_rounds(runs, name):
    reports = [read_json(runs(name) / f"round_0{k}" / "metrics.json")["training"] for k in range(3)]
    assert [report["steps"] for report in reports] == [8, 16, 24]


@pytest.mark.parametrize("control", ["none", "random_layers", "random_uniform", "shuffled"])
def test_controls_and_transfer_of_a_ticket(runs, tiny_corpus, tmp_path, control):
    ticket = runs("imp")
    pruning = PruningConfig(ticket=str(ticket), control=control)
    search(settings(tiny_corpus, tmp_path / "run", pruning))
    for number in (1, 2):
        one, other = mask(ticket, number), mask(tmp_path / "run", number)
        assert one.kept == other.kept
        if control != "random_uniform":
            assert one.per_tensor() == other.per_tensor()
        assert (one == other) == (control == "none")


def test_targets_name_the_rounds_of_a_ticket_by_density(runs, tiny_corpus, tmp_path):
    ticket = runs("imp")
    last = mask(ticket, 2)
    pruning = PruningConfig(ticket=str(ticket), targets=(round(last.density(), 3),))
    search(replace(settings(tiny_corpus, tmp_path / "run", pruning), search=SearchConfig(rounds=1)))
    assert mask(tmp_path / "run", 1) == last
    strange = PruningConfig(ticket=str(ticket), targets=(0.5, 0.3))
    with pytest.raises(RunError, match=r"no finished round of .* has density 0\.5; its rounds have 1\.0000, 0\.8"):
        search(settings(tiny_corpus, tmp_path / "other", strange))
    assert not (tmp_path / "other" / "round_00").exists()


def test_a_ticket_with_too_few_rounds_is_refused_before_training(runs, tiny_corpus, tmp_path):
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig(ticket=str(runs("imp"))))
    with pytest.raises(RunError, match="round_03 is not there or not finished; name a run with 3 rounds or more"):
        search(replace(config, search=SearchConfig(rounds=3)))
    assert not (tmp_path / "run" / "round_00").exists()


def test_a_ticket_trains_with_another_alphabet(runs, tiny_corpus, tmp_path):
    ticket = runs("imp")
    model = ModelConfig(init=str(ticket / "theta"), characters="abcdefghijklmnopqrstuvwxyz'äöü", reset_head=True)
    search(settings(tiny_corpus, tmp_path / "run", PruningConfig(ticket=str(ticket)), model=model))
    assert weights(tmp_path / "run", "round_02")["lm_head.weight"].shape[0] == 33
    assert mask(tmp_path / "run", 2) == mask(ticket, 2)
    theta, other = weights(ticket, "theta"), weights(tmp_path / "run", "theta")
    assert all(torch.equal(theta[name], other[name]) for name in theta if not name.startswith("lm_head"))


def test_a_search_goes_on_from_a_found_mask(runs, tiny_corpus, tmp_path):
    start = runs("imp") / "round_02" / "mask.safetensors"
    search(settings(tiny_corpus, tmp_path / "run", PruningConfig(start=str(start)), search=SearchConfig(rounds=1)))
    assert mask(tmp_path / "run", 0) == Mask.load(start)
    assert mask(tmp_path / "run", 1).is_subset_of(Mask.load(start))
    assert mask(tmp_path / "run", 1).density() == pytest.approx(0.8**3, abs=1e-3)


@pytest.mark.parametrize("method", ["parp", "parp_p"])
def test_masks_that_move_stay_within_the_mask_they_start_from(runs, tiny_corpus, tmp_path, method):
    path = runs("imp") / "round_02" / "mask.safetensors"
    pruning = PruningConfig(method=method, start=str(path), targets=HALVES, every=2)
    # steps so large that pruned weights outgrow others: without a warm start the mask would leave it
    fast = TrainingConfig(max_steps=8, max_batch_seconds=8, learning_rate=0.05, eval_every=4)
    search(settings(tiny_corpus, tmp_path / "run", pruning, search=SearchConfig(rounds=1), training=fast))
    found = mask(tmp_path / "run", 1)
    assert found.kept == exact_count(HALVES[0], found.prunable)
    assert found.is_subset_of(Mask.load(path))


def check(config: RunConfig) -> None:
    """What a search looks at first."""
    validate(config)
    check_method(config)


@pytest.mark.parametrize(
    ("pruning", "message"),
    [
        (PruningConfig(method="gmp", rewind="lr"), "rewind must be theta"),
        (PruningConfig(method="parp", score="taylor"), "prunes while weights move"),
        (PruningConfig(method="gmp", score="movement"), "prunes while weights move"),
        (PruningConfig(rewind="step"), "rewind_step go together"),
        (PruningConfig(control="shuffled"), "needs pruning.ticket"),
        (PruningConfig(targets=(0.2, 0.5)), "must fall"),
        (PruningConfig(targets=(0.5,)), "targets names 1"),
        (PruningConfig(ticket="x", method="omp"), "must be imp"),
        (PruningConfig(begin=0.6), "begin < end"),
        (PruningConfig(equal_budget=True), "equal_budget: the rounds of imp cost what the rounds before them cost"),
        (PruningConfig(method="gmp", equal_budget=True, dense_steps=4), "equal_budget: every round is a multiple"),
        (PruningConfig(control="dense", equal_budget=True), "control dense every round has that budget"),
        (PruningConfig(dense_steps=-1), "must be 0 or more"),
        (PruningConfig(dense_steps=0, rewind="step", rewind_step=1), "no step that pruning.rewind step could go back"),
        (PruningConfig(dense_steps=0, score="movement"), "gathered while round 0 trains"),
    ],
)
def test_settings_that_do_not_go_together(tiny_corpus, tmp_path, pruning, message):
    with pytest.raises(ConfigError, match=message):
        check(settings(tiny_corpus, tmp_path / "run", pruning))


@pytest.mark.parametrize(
    ("pruning", "error"),
    [
        (PruningConfig(pattern="nm:2:4"), MaskError),  # a rate of 20 % is no 2:4
        (PruningConfig(pattern="blok:1x4"), MaskError),
        (PruningConfig(ticket="no-such-run"), AudioLotteryError),
        (PruningConfig(start="no-such-mask.safetensors"), MaskError),
    ],
)
def test_mistakes_are_found_before_training(tiny_corpus, tmp_path, pruning, error):
    with pytest.raises(error):
        search(settings(tiny_corpus, tmp_path / "run", pruning))
    assert not (tmp_path / "run" / "round_00").exists()


def test_movement_is_refused_where_no_training_comes_first(tiny_corpus, tmp_path):
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig(method="mpi", score="movement"))
    with pytest.raises(ConfigError, match=r"gathered while .* trains, and pruning\.method mpi starts every round"):
        search(config)
    assert not (tmp_path / "run").exists()


def test_a_search_without_intervals(tiny_corpus, tmp_path):
    evaluation = EvaluationConfig(suites=(SuiteConfig("clean"),), bootstrap=0)
    rows = search(settings(tiny_corpus, tmp_path / "run", PruningConfig(), evaluation=evaluation))
    result = read_json(tmp_path / "run" / "round_01" / "metrics.json")["test"]["clean"]
    assert result["wer_interval"] is None
    assert result["difference_to_dense"]["interval"] is None
    assert not any(name.startswith("low_") for row in rows for name in row)
    write_report(rows, tmp_path / "run")
    with pytest.raises(ConfigError, match="tickets are chosen by intervals"):
        select([tmp_path / "run"], resamples=0)
