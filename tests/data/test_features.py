"""Model inputs: an utterance in a padded batch is what it is alone, and its padding is zero."""

import numpy as np
import pytest
import torch
import transformers

from audio_lottery.data.audio import SAMPLE_RATE
from audio_lottery.data.batching import Collator
from audio_lottery.data.features import FeatureExtraction
from audio_lottery.models.characters import build_processor

AUDIO = [
    np.random.default_rng(seconds).normal(0.1 * seconds, 0.05 * seconds, 16_000 * seconds).astype(np.float32)
    for seconds in (8, 2, 5)
]


def collate(processor, labels=((3, 4), (5,), ())) -> dict:
    items = [
        {"id": str(index), "audio": audio, "labels": list(ids), "epoch": 0}
        for index, (audio, ids) in enumerate(zip(AUDIO, labels, strict=True))
    ]
    return Collator(FeatureExtraction(processor.feature_extractor))(items)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("normalise", [True, False])
def test_padding_changes_no_utterance_and_is_zero(mask, normalise):
    processor = build_processor(do_normalize=normalise, return_attention_mask=mask)
    batch = collate(processor)
    assert set(batch["inputs"]) == {"input_values", "attention_mask"} - ({"attention_mask"} if not mask else set())
    for row, audio in zip(batch["inputs"]["input_values"], AUDIO, strict=True):
        alone = processor.feature_extractor(audio, sampling_rate=SAMPLE_RATE, return_tensors="pt")["input_values"][0]
        assert torch.equal(row[: len(audio)], alone)
        assert not row[len(audio) :].any()
        if normalise:
            assert float(alone.mean()) == pytest.approx(0, abs=1e-5)
            assert float(alone.std()) == pytest.approx(1, abs=1e-3)
    assert batch["samples"].tolist() == [len(audio) for audio in AUDIO]
    assert [ids.tolist() for ids in batch["labels"]] == [[3, 4], [5], []]


def test_an_extractor_that_gives_a_mask_is_left_to_itself():
    """The demo's preset: bit for bit what transformers makes of the batch."""
    processor = build_processor()
    inputs = collate(processor)["inputs"]
    plain = processor.feature_extractor(AUDIO, sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt")
    assert inputs.keys() == plain.keys()
    assert all(torch.equal(inputs[name], plain[name]) for name in plain)
    assert all(inputs[name].dtype == plain[name].dtype for name in plain)


@pytest.mark.parametrize(
    ("name", "settings", "mask"),
    [
        ("Wav2Vec2FeatureExtractor", {"return_attention_mask": True}, "attention_mask"),
        ("Wav2Vec2FeatureExtractor", {"return_attention_mask": False}, None),
        ("SeamlessM4TFeatureExtractor", {}, "attention_mask"),
        ("SeamlessM4TFeatureExtractor", {"return_attention_mask": False}, None),
        ("ParakeetFeatureExtractor", {}, "attention_mask"),
        ("LasrFeatureExtractor", {}, None),
        ("GraniteSpeech5FeatureExtractor", {}, "attention_mask"),
        ("OmniASRFeatureExtractor", {}, "padding_mask"),
    ],
)
def test_the_mask_is_what_the_extractor_gives_by_itself(name, settings, mask):
    if not hasattr(transformers, name):
        pytest.skip(f"this transformers has no {name}")
    inputs = FeatureExtraction(getattr(transformers, name)(**settings))(AUDIO)
    assert {key for key in inputs if key.endswith("mask")} == ({mask} if mask else set())
