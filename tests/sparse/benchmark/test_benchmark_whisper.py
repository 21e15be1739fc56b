"""Whisper as a subject: its parts, how much is written, and CTranslate2 beside torch on the same weights."""

from dataclasses import replace

import pytest
import torch

from audio_lottery import pruning
from audio_lottery.commands.bench import load_subjects
from audio_lottery.errors import ModelError
from audio_lottery.models.load import load_backbone
from audio_lottery.sparse.benchmark import (
    BenchmarkSettings,
    compare_model,
    model_break_even,
    noise,
    own,
    subjects_of,
)
from audio_lottery.sparse.benchmark.whisper_contestants import prompt_of, same_words, steps_of
from audio_lottery.sparse.benchmark.whisper_speech import Spoken, compare_speech, rows_of
from tests.lottery.test_backbones import TINY

WIDE = {"d_model": 64, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "init_std": 0.3}


@pytest.fixture(scope="module")
def backbone():
    found = load_backbone(replace(TINY["whisper"], overrides=TINY["whisper"].overrides | WIDE), seed=2)
    pruning.apply(pruning.prune(found.module, 0.2, allocation="uniform"), found.module)
    return found


@pytest.fixture(scope="module")
def subjects(backbone):
    def make_inputs(seconds):
        return backbone.features([noise(seconds).numpy()])["input_features"]

    return subjects_of("tiny", backbone.module.eval(), backbone.processor, make_inputs, (0.5, 1.0))


def test_parts_and_how_much_is_written(backbone, subjects):
    assert [subject.name for subject in subjects] == [
        "tiny, the encoder",
        "tiny, whole utterances, 2 word pieces",
        "tiny, whole utterances, 3 word pieces",
    ]
    assert [subject.seconds for subject in subjects] == [None, (0.5,), (1.0,)]
    assert [steps_of(backbone.module, seconds) for seconds in (0.1, 1, 30)] == [1, 3, 14]  # of 16, without the prompt
    with torch.no_grad():
        inputs = subjects[2].make_inputs(1.0)
        words = subjects[2].logits(backbone.module)(inputs)
    never = {backbone.module.generation_config.eos_token_id}
    assert words.shape == (1, 3)
    assert not never & set(words.flatten().tolist())


def test_a_part_that_nobody_runs_is_left_out(backbone, tmp_path):
    backbone.save(tmp_path)
    for runtimes, count in ((("openvino",), 1), (("ctranslate2",), 2), ((), 2)):
        found = load_subjects(str(tmp_path), BenchmarkSettings(seconds=(1.0,), runtimes=runtimes, threads=1))
        assert len(found) == count


@pytest.mark.parametrize("number", range(2))
def test_all_contestants_compute_the_same_model(subjects, number):
    pytest.importorskip("ctranslate2")
    subject = subjects[number]
    settings = BenchmarkSettings(
        seconds=(0.5,), runtimes=("torch", "ctranslate2", "audio_lottery"), repeats=1, threads=1, rest=0.0
    )
    outcome = compare_model(subject, settings)
    found = {(row["runtime"], row["precision"]): row for row in outcome.rows}
    assert not [note for note in outcome.notes if "left out" in note or "WRONG" in note]
    assert {("ctranslate2", "float32"), ("ctranslate2", "int8"), ("audio_lottery", "float32")} <= set(found)
    row = found["audio_lottery", "float32"]
    assert row["rtf"] == row["median_s"] / 0.5
    if number == 0:
        # int8 would not be what it says if it were as exact
        assert found["ctranslate2", "int8"]["max_abs_difference"] > 1e-4
    else:
        assert row["max_abs_difference"] is None
        assert row["same_labels"] == found["ctranslate2", "float32"]["same_labels"] == 1


def test_other_words_are_wrong_in_float32_only():
    reference = torch.tensor([[3, 4, 5, 6]])
    other = torch.tensor([[3, 4, 5, 7]])
    assert same_words(reference, reference, "float32").right
    assert same_words(other, reference, "int8").same_labels == 0.75
    assert same_words(other, reference, "float32").verdict == "25% of the word pieces are others"
    assert "shape" in same_words(other[:, :2], reference, "int8").verdict


def test_prompts(backbone):
    settings = backbone.module.generation_config
    assert prompt_of(backbone.module) == [settings.decoder_start_token_id, settings.no_timestamps_token_id]
    settings.is_multilingual = True
    try:
        with pytest.raises(ModelError, match=r"names no ids of languages and tasks"):
            prompt_of(backbone.module)
        settings.lang_to_id, settings.task_to_id, settings.language = {"<|de|>": 7}, {"transcribe": 9}, "<|de|>"
        assert prompt_of(backbone.module)[1:3] == [7, 9]
    finally:
        settings.is_multilingual = False


def test_speech_at_several_sparsities_in_one_run(backbone):
    dense = load_backbone(replace(TINY["whisper"], overrides=TINY["whisper"].overrides | WIDE), seed=2).module.eval()
    utterances = [Spoken(0.5, backbone.features([noise(0.5).numpy()])["input_features"], steps) for steps in (2, 3)]
    settings = BenchmarkSettings(sparsities=(0.0, 0.5, 0.9), precisions=("int8",), repeats=2, threads=1, rest=0.0)
    sparse = {sparsity: own.pruned(dense, "16x1", sparsity) for sparsity in settings.sparsities}
    laps, notes = compare_speech(dense, sparse, backbone.processor, utterances, settings)
    rows = rows_of(laps, 1.0, "16x1")
    ours = [row for row in rows if row["runtime"] == own.NAME]
    assert [(row["subject"], row["precision"], row["pattern"], row["sparsity"]) for row in ours] == [
        (part, "int8", pattern, sparsity)
        for part in ("encoder", "utterance")
        for pattern, sparsity in (("dense", 0.0), ("16x1", 0.5), ("16x1", 0.9))
    ]
    assert [row["plan"] == own.UNCHANGED for row in ours] == [True, False, False] * 2
    assert all(row["shared"] == (row["runtime"] != own.NAME) for row in rows)
    assert all(row["rtf"][0] == row["median_s"] and len(row["wall"]) == 2 for row in rows)
    assert not any(row["wrong"] for row in rows if row["precision"] == "float32")
    rivals = {("torch", "float32")} | ({("ctranslate2", "float32"), ("ctranslate2", "int8")} if not notes else set())
    lines = model_break_even(rows)
    assert {(line.subject, line.rival, line.rival_precision) for line in lines} == {
        (part, *rival) for part in ("encoder", "utterance") for rival in rivals
    }
    assert all((line.crossings.least, line.crossings.most) == (0.5, 0.9) for line in lines)
