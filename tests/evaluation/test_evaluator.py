"""Evaluation: the result depends on model, audio and seed; not on batch size, order or run."""

import json

import numpy as np
import pytest
import torch
from transformers import SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertForCTC, Wav2Vec2Processor

from audio_lottery.config import CorpusConfig, DataConfig, EvaluationConfig, ModelConfig, RunConfig, SuiteConfig
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.errors import AudioError, ConfigError, ModelError
from audio_lottery.evaluation.decoding import Hypothesis
from audio_lottery.evaluation.evaluator import Evaluator, make_evaluator
from audio_lottery.evaluation.forward import evaluation_batches, read_ahead
from audio_lottery.evaluation.transcripts import Transcripts, best_texts, join
from audio_lottery.models.characters import build_processor
from audio_lottery.models.conformer import Conformer
from audio_lottery.models.load import load_backbone, load_folder
from audio_lottery.processes import make_accelerator
from audio_lottery.report.evaluation import format_results
from tests.conftest import TINY_MODEL

# a model with random weights says something only where its output layer is not too shy
LOUD = TINY_MODEL | {"initializer_range": 0.5}


def mel_backbone() -> Conformer:
    """A tiny Wav2Vec2-BERT, which takes mel features."""
    processor = Wav2Vec2Processor(
        feature_extractor=SeamlessM4TFeatureExtractor(), tokenizer=build_processor().tokenizer
    )
    config = Wav2Vec2BertConfig(
        vocab_size=len(processor.tokenizer),
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=48,
        initializer_range=0.5,
        pad_token_id=0,
    )
    return Conformer(Wav2Vec2BertForCTC(config), processor)


def evaluator(root=None, normalizer: str = "none", **settings) -> Evaluator:
    return Evaluator(make_accelerator("no", None), EvaluationConfig(**settings), normalizer, root)


def read(backbone, manifest, **settings) -> list[str]:
    return best_texts(evaluator(**settings).hypotheses(backbone, manifest))


@pytest.fixture(scope="module")
def test_set(tiny_corpus):
    return load_manifest([CorpusConfig("jsonl", "test")], tiny_corpus)


@pytest.fixture(scope="module", params=["layer", "group", "mel"])
def backbone(request):
    if request.param == "mel":
        return mel_backbone()
    overrides = LOUD | {"feat_extract_norm": request.param, "conv_bias": request.param == "layer"}
    return load_backbone(ModelConfig(init="w2v2-mini", overrides=overrides), seed=4)


def test_hypotheses_do_not_depend_on_batch_size_or_order(backbone, test_set):
    one_by_one = read(backbone, test_set, max_batch_seconds=0.1)
    assert len(set(one_by_one)) > 1, "the model must say something for this test to mean anything"
    assert read(backbone, test_set, max_batch_seconds=100) == one_by_one
    backwards = test_set.select(range(len(test_set) - 1, -1, -1))
    assert read(backbone, backwards, max_batch_seconds=3) == one_by_one[::-1]


def test_a_model_on_mel_features_is_evaluated_from_its_folder(test_set, tmp_path):
    backbone = mel_backbone()
    backbone.save(tmp_path / "model")
    loaded = load_folder(tmp_path / "model")
    assert evaluator().hypotheses(loaded, test_set) == evaluator().hypotheses(backbone, test_set)
    assert int(loaded.frames(torch.tensor(16_000))) == 49


def test_bf16_changes_scores_and_little_else(test_set):
    backbone = load_backbone(ModelConfig(init="w2v2-mini", overrides=LOUD), seed=4)
    exact = evaluator().hypotheses(backbone, test_set)
    rounded = evaluator(precision="bf16").hypotheses(backbone, test_set)
    for (one,), (other,) in zip(exact, rounded, strict=True):
        assert one.score != other.score
        assert other.score == pytest.approx(one.score, rel=0.1)


@pytest.mark.parametrize("condition", [SuiteConfig("clean"), SuiteConfig("pink10", "pink", 10.0)])
def test_result_and_transcripts(backbone, test_set, tmp_path, condition):
    judge = evaluator(tmp_path, "basic", bootstrap=100)
    result, transcripts = judge.run(backbone, test_set, condition)
    assert result["utterances"] == 8
    assert result["audio_seconds"] == pytest.approx(sum(test_set["duration"]))
    assert result["wer"] == pytest.approx(
        (result["substitutions"] + result["deletions"] + result["insertions"]) / result["reference_words"]
    )
    assert result["wer_interval"][0] <= result["wer"] <= result["wer_interval"][1]
    assert (result["snr_db"], result["decoder"], result["normalizer"]) == (condition.snr_db, "greedy", "basic")
    assert json.loads(json.dumps(result)) == result
    again, _ = judge.run(backbone, test_set, condition)
    assert again == result
    transcripts.write(tmp_path / "out" / "suite.tsv")
    lines = [line.split("\t") for line in (tmp_path / "out" / "suite.tsv").read_text().splitlines()]
    assert lines[0] == ["id", "reference", "hypothesis", "speaker"]
    assert [line[0] for line in lines[1:]] == test_set["id"][:]


def test_a_set_in_windows_measures_as_the_whole(test_set, tmp_path):
    backbone = load_backbone(ModelConfig(init="w2v2-mini", overrides=LOUD), seed=4)
    judge, suite = evaluator(tmp_path), SuiteConfig("n", "white", 5.0)
    whole, _ = judge.run(backbone, test_set, suite)
    windows = [judge.transcribe(backbone, test_set.select(rows), suite) for rows in (range(3), range(3, 8))]
    assert judge.measure(join(windows), suite) == whole | {"audio_seconds": pytest.approx(whole["audio_seconds"])}


def test_wer_by_other_normalisers_stands_beside(tmp_path):
    texts = Transcripts(["a"], ["It's 9 O'clock."], [[Hypothesis("it is nine o'clock", 0, 0, 0)]], [""], ["c"], 1.0)
    data = DataConfig(root=str(tmp_path), normalizer="none")
    config = RunConfig(data=data, evaluation=EvaluationConfig(normalizer="basic", beside=("librispeech",), bootstrap=0))
    result = make_evaluator(config, make_accelerator("no", None)).measure(texts, SuiteConfig("clean"))
    assert (result["normalizer"], config.wer_normalizer, result["wer"]) == ("basic", "basic", 1.0)
    assert result["beside"] == {"librispeech": {"wer": 4 / 3, "cer": pytest.approx(7 / 15)}}
    header, _, row, *_ = format_results({"clean": result}).splitlines()
    assert header.endswith("librispeech WER %")
    assert row.endswith("133.33")
    assert (result["loops"], result["loop_words"]) == (0, 0)
    config.evaluation.beside = ("librispech",)
    with pytest.raises(ConfigError, match="unknown normalizer 'librispech'"):
        make_evaluator(config, make_accelerator("no", None))


def test_a_batch_is_counted_as_the_model_pads_it():
    durations = [3.0, 1.0, 2.0, 7.0]
    padded = np.array([5.0, 5.0, 5.0, 10.0])
    assert evaluation_batches(durations, 10.0, True, padded) == [[3], [0, 2], [1]]
    assert evaluation_batches(durations, 10.0, True) == [[3], [0, 2, 1]]


def test_an_utterance_that_is_too_long_is_named(test_set, tmp_path):
    backbone = load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), seed=4)
    longest = test_set[int(np.argmax(test_set["duration"]))]
    with pytest.raises(ModelError, match=f"'{longest['id']}' lasts"):
        evaluator(tmp_path, max_utterance_seconds=0.7).run(backbone, test_set, SuiteConfig("clean"))


def test_read_ahead_keeps_order_and_raises_in_place():
    def items():
        yield from range(5)
        raise AudioError("utterance five is broken")

    reader = read_ahead(items())
    assert [next(reader) for _ in range(5)] == list(range(5))
    with pytest.raises(AudioError, match="five"):
        next(reader)


def test_read_ahead_stops_drawing_when_it_is_closed():
    drawn = []

    def items():
        for number in range(1000):
            drawn.append(number)
            yield number

    reader = read_ahead(items(), depth=2)
    next(reader)
    reader.close()
    count = len(drawn)
    assert count < 10
    assert len(drawn) == count
