"""`evaluation.runtime: sparse`: every family, evaluated on the kernels, writes what it writes on torch."""

import importlib
from dataclasses import replace

import pytest
import torch

from audio_lottery import pruning
from audio_lottery.config import CorpusConfig, EvaluationConfig, ModelConfig, PruningConfig, SuiteConfig, validate
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.errors import ConfigError
from audio_lottery.evaluation.evaluate import evaluate_model
from audio_lottery.evaluation.evaluator import Evaluator
from audio_lottery.evaluation.runtime import on_runtime
from audio_lottery.evaluation.transcripts import best_texts
from audio_lottery.lottery.search import search
from audio_lottery.models.load import load_backbone
from audio_lottery.processes import make_accelerator
from audio_lottery.sparse.runtime.modules import Accelerated
from audio_lottery.storage import read_json
from tests.conftest import TINY_MODEL
from tests.lottery.test_backbones import TINY
from tests.lottery.test_methods import settings

# Largest difference of a logit, in standard deviations.
LIMITS = {"no": 1e-4, "bf16": 0.05, "int8": 0.3}
FAMILIES = {"wav2vec2": ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), **TINY}


@pytest.fixture(autouse=True)
def every_kernel_is_faster(monkeypatch):
    """What a trial finds is this machine's business, and the models here are too small to gain."""
    accelerate = importlib.import_module("audio_lottery.sparse.runtime.accelerate")
    monkeypatch.setattr(accelerate, "_trial", lambda *_: (1.0, 0.0))


@pytest.fixture(scope="module")
def test_set(tiny_corpus):
    return load_manifest([CorpusConfig("jsonl", "test")], tiny_corpus)


@pytest.mark.parametrize("precision", ["no", "bf16", "int8"])
@pytest.mark.parametrize("family", FAMILIES)
def test_emissions_are_those_of_torch(family, precision, test_set):
    backbone = load_backbone(FAMILIES[family], seed=3)
    pruning.apply(pruning.prune(backbone.module, 0.3), backbone.module)
    before = {name: weight.clone() for name, weight in backbone.module.state_dict().items()}
    chosen = EvaluationConfig(runtime="sparse", precision=precision)
    fast = on_runtime(backbone, chosen)
    assert any(isinstance(module, Accelerated) for module in fast.module.modules())
    assert not any(isinstance(module, Accelerated) for module in backbone.module.modules())
    audio = [torch.randn(n, generator=torch.Generator().manual_seed(n)).numpy() for n in (9_000, 16_000)]
    inputs, samples = backbone.features(audio), torch.tensor([9_000, 16_000])
    with torch.no_grad():
        emissions = [one.emit(dict(inputs), samples) for one in (backbone, fast)]
    # what lies behind an utterance means nothing, and the kernels do not compute it
    expected, found = (
        torch.cat([row[:count].float() for row, count in zip(one.values, one.frames, strict=True)]) for one in emissions
    )
    assert (expected - found).abs().max() <= LIMITS[precision] * float(expected.std())
    accelerator = make_accelerator("no", None)
    plain, sparse = (Evaluator(accelerator, one, "none", None) for one in (EvaluationConfig(), chosen))
    texts = [best_texts(plain.hypotheses(backbone, test_set)), best_texts(sparse.hypotheses(fast, test_set))]
    assert precision != "no" or texts[0] == texts[1]
    assert len(texts[1]) == len(test_set)
    assert all(torch.equal(weight, before[name]) for name, weight in backbone.module.state_dict().items())


def test_a_search_and_evaluate_on_the_kernels(tiny_corpus, tmp_path):
    evaluation = EvaluationConfig(suites=(SuiteConfig("clean"),), bootstrap=0, runtime="sparse")
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig(), evaluation=evaluation)
    search(config)
    measured = read_json(tmp_path / "run" / "round_02" / "metrics.json")["test"]["clean"]
    assert measured["runtime"] == "sparse"
    for runtime in ("sparse", "torch"):
        again = replace(config, evaluation=replace(evaluation, runtime=runtime))
        [outcome] = evaluate_model(str(tmp_path / "run" / "round_02"), again).values()
        assert outcome.result["runtime"] == runtime
        assert outcome.result["wer"] == measured["wer"]


def test_int8_is_for_the_kernels_alone(tiny_corpus, tmp_path):
    evaluation = EvaluationConfig(suites=(SuiteConfig("clean"),), precision="int8")
    config = settings(tiny_corpus, tmp_path / "run", PruningConfig(), evaluation=evaluation)
    with pytest.raises(ConfigError, match=r"evaluation\.precision int8 needs evaluation\.runtime sparse"):
        validate(config)
    validate(replace(config, evaluation=replace(evaluation, runtime="sparse")))
