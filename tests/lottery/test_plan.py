"""A plan says what the search then does."""

import re
from dataclasses import replace

import pytest

from audio_lottery.commands.plan import main
from audio_lottery.config import DistillConfig, PruningConfig, SearchConfig, ThetaConfig
from audio_lottery.errors import ConfigError
from audio_lottery.lottery.plan import make_plan
from audio_lottery.lottery.search import search
from audio_lottery.report.plan import format_plan
from audio_lottery.settings import to_yaml
from audio_lottery.storage import read_json
from tests.lottery.test_backbones import TINY
from tests.lottery.test_methods import HALVES, settings


@pytest.mark.parametrize(
    ("pruning", "family", "keep"),
    [
        (PruningConfig(), None, "all"),
        (PruningConfig(), "conformer", "masks"),
        (PruningConfig(method="omp", targets=HALVES), "cnn_lstm", "best"),
        (PruningConfig(control="dense"), None, "all"),
        (PruningConfig(method="gmp", targets=HALVES, every=2, dense_steps=5), None, "all"),
        (PruningConfig(method="gmp", targets=HALVES, every=2, equal_budget=True), None, "masks"),
    ],
)
def test_densities_counts_and_steps_are_those_of_the_search(tiny_corpus, tmp_path, pruning, family, keep):
    config = settings(tiny_corpus, tmp_path / "run", pruning, search=SearchConfig(2, keep))
    if family is not None:
        config = replace(config, model=TINY[family])
    theta = ThetaConfig(train=config.data.train, dev=config.data.dev, training=config.training)
    config = replace(config, theta=theta)
    plan = make_plan(config, trial_steps=0)
    assert not (tmp_path / "run").exists()
    search(config)
    metrics = [read_json(tmp_path / "run" / f"{stage.name}" / "metrics.json") for stage in plan.stages]
    assert [stage.steps for stage in plan.stages] == [found["training"]["steps"] for found in metrics]
    assert [stage.evaluations for stage in plan.stages] == [len(found["training"]["history"]) for found in metrics]
    assert [stage.kept for stage in plan.stages[1:]] == [found["kept"] for found in metrics[1:]]
    assert plan.parameters == metrics[1]["parameters"]
    assert sum(weights for _, weights in plan.prunable.values()) == metrics[1]["prunable"]
    scope = read_json(tmp_path / "run" / "scope.json")
    assert sum(tensors for tensors, _ in plan.prunable.values()) == len(scope["prunable"])
    assert sum(tensors for tensors, _ in plan.left_out.values()) == len(scope["left_out"])
    heard = [found["training"]["epochs"] for found in metrics]
    assert [stage.audio_seconds / plan.stages[0].audio_seconds * heard[0] for stage in plan.stages] == pytest.approx(
        heard
    )
    files = list((tmp_path / "run").rglob("*.safetensors"))
    assert plan.disk_bytes == pytest.approx(sum(path.stat().st_size for path in files), rel=0.2)


def test_a_trial_tells_the_time_and_writes_nothing(tiny_corpus, tmp_path, capsys):
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig())
    (tmp_path / "plan.yaml").write_text(to_yaml(config))
    main([str(tmp_path / "plan.yaml"), "--trial_steps", "2"])
    printed = capsys.readouterr().out
    assert "trial: 2 steps of" in printed
    assert "in all: about" in printed
    assert re.search(r"round_02 +64\.00 ", printed)
    assert max(map(len, printed.splitlines())) <= 100 + len(str(tmp_path))
    assert not (tmp_path / "run").exists()
    plan = make_plan(config, trial_steps=1)
    assert "round_02" in format_plan(plan)
    assert plan.seconds(plan.stages[1], 1.0) > plan.stages[1].steps
    taught = replace(config, training=replace(config.training, distill=DistillConfig("dense")))
    with_teacher = make_plan(taught, trial_steps=1)
    assert with_teacher.training_bytes == plan.training_bytes * 6 / 5
    cached = make_plan(replace(config, training=replace(config.training, distill=DistillConfig("dense", cache=True))))
    assert cached.answer_bytes > 0 == with_teacher.answer_bytes
    assert re.search(r"\n +[\d.]+ kB for what the teacher says of the training speech\n", format_plan(cached))


def test_mistakes_are_told_as_a_search_would(tiny_corpus, tmp_path):
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig(method="gmp", rewind="lr"))
    with pytest.raises(ConfigError, match="rewind must be theta"):
        make_plan(config)
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig(method="gmp", every=20))
    with pytest.raises(ConfigError, match=r"too short for its schedule: .*; raise training\.max_steps to 40 or more"):
        make_plan(config)
    distill = DistillConfig("dense", hidden_weight=1.0, hidden_layers=("nothing",))
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig())
    with pytest.raises(ConfigError, match="'nothing' is the name of no module"):
        make_plan(replace(config, training=replace(config.training, distill=distill)))
    (tmp_path / "plan.yaml").write_text(to_yaml(settings(tiny_corpus, tmp_path / "run", PruningConfig())))
    with pytest.raises(ConfigError, match="--trial_steps is -1"):
        main([str(tmp_path / "plan.yaml"), "--trial_steps", "-1"])
