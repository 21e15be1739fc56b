"""Evaluation: the result depends on model, audio and seed; not on batch size, order or run."""

import json

import numpy as np
import pytest

from audio_lottery.config import CorpusConfig, EvaluationConfig, ModelConfig, SuiteConfig
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.errors import CorpusError
from audio_lottery.evaluation.suites import noise_transform, run_suite, write_transcripts
from audio_lottery.evaluation.transcribe import transcribe
from audio_lottery.models.ctc import load_recogniser
from audio_lottery.training.processes import make_accelerator
from tests.conftest import TINY_MODEL

# a model with random weights says something only where its output layer is not too shy
LOUD = TINY_MODEL | {"initializer_range": 0.5}


@pytest.fixture(scope="module")
def test_set(tiny_corpus):
    return load_manifest([CorpusConfig("jsonl", "test")], tiny_corpus)


@pytest.fixture(scope="module", params=["layer", "group"])
def recogniser(request):
    overrides = LOUD | {"feat_extract_norm": request.param, "conv_bias": request.param == "layer"}
    return load_recogniser(ModelConfig(init="w2v2-mini", overrides=overrides), seed=4)


def test_hypotheses_do_not_depend_on_batch_size_or_order(recogniser, test_set):
    accelerator = make_accelerator("no", None)
    one_by_one = transcribe(recogniser, test_set, accelerator, max_batch_seconds=0.1)
    assert len(set(one_by_one)) > 1, "the model must say something for this test to mean anything"
    assert transcribe(recogniser, test_set, accelerator, max_batch_seconds=100) == one_by_one
    backwards = test_set.select(range(len(test_set) - 1, -1, -1))
    assert transcribe(recogniser, backwards, accelerator, max_batch_seconds=3) == one_by_one[::-1]


def test_noise_is_a_function_of_seed_suite_and_utterance(tmp_path):
    speech = np.sin(np.arange(16_000) / 20).astype(np.float32)
    suite = SuiteConfig("noise10", "pink", 10.0)
    noisy = noise_transform(suite, 0, tmp_path)(speech, {"id": "utt-1"}, 0)
    assert np.array_equal(noisy, noise_transform(suite, 0, tmp_path)(speech, {"id": "utt-1"}, 0))
    assert not np.array_equal(noisy, noise_transform(suite, 0, tmp_path)(speech, {"id": "utt-2"}, 0))
    assert not np.array_equal(noisy, noise_transform(suite, 1, tmp_path)(speech, {"id": "utt-1"}, 0))
    other = SuiteConfig("other10", "pink", 10.0)
    assert not np.array_equal(noisy, noise_transform(other, 0, tmp_path)(speech, {"id": "utt-1"}, 0))
    ratio = 10 * np.log10(np.mean(speech.astype(float) ** 2) / np.mean((noisy - speech).astype(float) ** 2))
    assert ratio == pytest.approx(10, abs=0.01)


def test_digital_silence_stays_as_it_is(tmp_path):
    silence = np.zeros(8_000, dtype=np.float32)
    assert not noise_transform(SuiteConfig("n", "white", 5.0), 0, tmp_path)(silence, {"id": "u"}, 0).any()


def test_result_and_transcripts(recogniser, test_set, tmp_path):
    result, transcripts = run_suite(
        recogniser,
        test_set,
        SuiteConfig("clean"),
        make_accelerator("no", None),
        EvaluationConfig(),
        normalizer="basic",
        root=tmp_path,
    )
    assert result["utterances"] == 8
    assert result["audio_seconds"] == pytest.approx(sum(test_set["duration"]))
    assert result["wer"] == pytest.approx(
        (result["substitutions"] + result["deletions"] + result["insertions"]) / result["reference_words"]
    )
    assert json.loads(json.dumps(result)) == result
    write_transcripts(tmp_path / "out" / "clean.tsv", transcripts)
    lines = [line.split("\t") for line in (tmp_path / "out" / "clean.tsv").read_text().splitlines()]
    assert lines[0] == ["id", "reference", "hypothesis"]
    assert [line[0] for line in lines[1:]] == test_set["id"][:]


def test_a_missing_noise_folder_is_named(tmp_path):
    with pytest.raises(CorpusError, match="nowhere"):
        noise_transform(SuiteConfig("n", "nowhere", 5.0), 0, tmp_path)
