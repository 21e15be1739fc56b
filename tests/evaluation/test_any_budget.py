"""The promise of evaluation: the same text for any budget, for every architecture; too short is empty, not an error."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_lottery.config import ModelConfig
from audio_lottery.data.manifest import Utterance, build_manifest
from audio_lottery.evaluation.decoding import greedy_decoder
from audio_lottery.evaluation.forward import forward
from audio_lottery.evaluation.transcribe import best_texts, transcribe
from audio_lottery.models.ctc import load_recogniser
from audio_lottery.training.processes import make_accelerator
from tests.conftest import TINY_MODEL
from tests.models.architectures import ARCHITECTURES, every_architecture

# Samples: odd lengths, two of them alike; 5 ms and a single sample give no frame anywhere.
LENGTHS = [11_173, 16_001, 5_759, 13_337, 11_173, 8_888, 80, 1]
SHORT = [index for index, length in enumerate(LENGTHS) if length <= 80]


def write_manifest(folder: Path, lengths: list[int], seconds: list[float] | None = None):
    """Noise of these lengths whose loudness changes; ``seconds`` is what the manifest claims."""
    rows = []
    for index, length in enumerate(lengths):
        rng = np.random.default_rng(index)
        loudness = np.repeat(rng.uniform(0.01, 0.3, length // 800 + 1), 800)[:length]
        path = folder / f"{index}.wav"
        soundfile.write(path, 0.02 + loudness * rng.normal(0, 1, length), 16_000, subtype="FLOAT")
        duration = seconds[index] if seconds else length / 16_000
        rows.append(Utterance(path.stem, str(path), 0.0, duration, "a", "s", duration, "c"))
    return build_manifest(rows, "test")


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    return write_manifest(tmp_path_factory.mktemp("lengths"), LENGTHS)


def outputs(recogniser, manifest, budget: float) -> tuple[list[np.ndarray], list[str], list[int]]:
    """Logits without padding, and greedy text, of every row; and how many rows went through the model together."""
    found, sizes = {}, []
    decode = greedy_decoder(recogniser)
    for rows, logits, frames in forward(recogniser, manifest, make_accelerator("no", None), max_batch_seconds=budget):
        texts = [hypotheses[0].text for hypotheses in decode(logits.clone(), frames)]
        for row, values, count, text in zip(rows, logits, frames, texts, strict=True):
            assert count <= len(values)
            assert row not in found
            found[row] = (values[:count].numpy(), text)
        sizes.append(len(rows))
    logits, texts = zip(*(found[row] for row in range(len(manifest))), strict=True)
    return list(logits), list(texts), sorted(sizes)


@every_architecture
def test_logits_and_text_are_the_same_for_any_budget(row, manifest):
    recogniser = row.recogniser()
    alone, text_alone, sizes_alone = outputs(recogniser, manifest, 1e-3)
    together, text_together, sizes_together = outputs(recogniser, manifest, 1e3)
    assert text_alone == text_together
    assert len(set(text_alone)) > 2, "the model must say something for this test to mean anything"
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, atol=1e-3)
    for index in SHORT:
        assert (len(alone[index]), text_alone[index]) == (0, "")
    assert sizes_alone == [1] * len(LENGTHS)
    assert sizes_together == ([2, 6] if row.exact else [1] * 6 + [2])


@pytest.mark.parametrize("row", {row.name: row for row in ARCHITECTURES}.values(), ids=lambda row: row.name)
def test_a_set_of_nothing_but_too_short_utterances(row, tmp_path, caplog):
    recogniser = row.recogniser()
    manifest = write_manifest(tmp_path, [row.shortest - 1, 5, row.shortest])
    texts = best_texts(transcribe(recogniser, manifest.select([0, 1]), make_accelerator("no", None)))
    assert texts == ["", ""]
    assert f"2 utterances are shorter than {row.shortest / 16_000:g} s" in caplog.text
    [[_, logits, [frames]]] = forward(recogniser, manifest.select([2]), make_accelerator("no", None))
    assert 1 <= frames <= logits.shape[1]
    assert logits.isfinite().all()


def test_audio_without_a_sample_is_too_short(manifest):
    recogniser = ARCHITECTURES[0].recogniser()

    def silence_first(audio: np.ndarray, row, epoch: int) -> np.ndarray:
        return audio[:0] if row["id"] == "0" else audio

    accelerator = make_accelerator("no", None)
    texts = best_texts(transcribe(recogniser, manifest, accelerator))
    emptied = best_texts(transcribe(recogniser, manifest, accelerator, transform=silence_first))
    assert texts[0]
    assert emptied == ["", *texts[1:]]


def test_the_lengths_of_the_audio_count_and_not_those_of_the_manifest(tmp_path):
    """A manifest may round: these four claim one length, and group norm would see the padding of three."""
    overrides = TINY_MODEL | {"feat_extract_norm": "group", "conv_bias": False, "initializer_range": 0.5}
    recogniser = load_recogniser(ModelConfig(init="w2v2-mini", overrides=overrides), seed=4)
    manifest = write_manifest(tmp_path, [16_000, 15_700, 15_400, 16_000], [1.0] * 4)
    alone, text_alone, _ = outputs(recogniser, manifest, 1e-3)
    together, text_together, _ = outputs(recogniser, manifest, 1e3)
    assert text_alone == text_together
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_model_that_remembers_a_pass_runs_one_batch_at_a_time_and_trains_on(manifest):
    """Rotary positions are kept in the module: two passes at once mix them up, and tensors of inference mode stay."""
    row = next(row for row in ARCHITECTURES if row.config.get("position_embeddings_type") == "rotary")
    recogniser = row.recogniser()
    threads, running, most = torch.get_num_threads(), 0, 0

    def count(module, inputs, result=None):
        nonlocal running, most
        running += 1 if result is None else -1
        most = max(most, running)

    recogniser.padding  # noqa: B018 - tried before the hooks
    recogniser.model.register_forward_pre_hook(count)
    recogniser.model.register_forward_hook(count)
    torch.set_num_threads(3)
    try:
        outputs(recogniser, manifest, 1e-3)
    finally:
        torch.set_num_threads(threads)
    assert most == 1
    recogniser.model.train()
    recogniser.model(torch.randn(1, LENGTHS[2])).logits.sum().backward()
    assert recogniser.model.lm_head.weight.grad is not None
