"""The promise of evaluation: the same text for any budget, for every architecture; too short is empty, not an error."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_lottery.config import EvaluationConfig, ModelConfig
from audio_lottery.data.manifest import Utterance, build_manifest
from audio_lottery.evaluation.decoding import GreedyDecoder
from audio_lottery.evaluation.forward import forward
from audio_lottery.evaluation.transcribe import transcribe
from audio_lottery.evaluation.transcripts import best_texts
from audio_lottery.models.load import load_backbone
from audio_lottery.processes import make_accelerator
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


def outputs(backbone, manifest, budget: float) -> tuple[list[np.ndarray], list[str], list[int]]:
    """Logits without padding, and greedy text, of every row; and how many rows went through the model together."""
    found, sizes = {}, []
    decode = GreedyDecoder(backbone)
    settings = EvaluationConfig(max_batch_seconds=budget)
    for rows, emission in forward(backbone, manifest, make_accelerator("no", None), settings=settings):
        texts = [hypotheses[0].text for hypotheses in decode(emission)]
        for row, values, count, text in zip(rows, emission.values, emission.frames, texts, strict=True):
            assert count <= len(values)
            assert row not in found
            found[row] = (values[:count].numpy(), text)
        sizes.append(len(rows))
    silent = (np.zeros((0, 1)), "")
    logits, texts = zip(*(found.get(row, silent) for row in range(len(manifest))), strict=True)
    return list(logits), list(texts), sorted(sizes)


def read(backbone, manifest, transform=None) -> list[str]:
    """Greedy text of every row."""
    accelerator, decoder = make_accelerator("no", None), GreedyDecoder(backbone)
    return best_texts(
        transcribe(backbone, manifest, accelerator, decoder, settings=EvaluationConfig(), transform=transform)
    )


@every_architecture
def test_logits_and_text_are_the_same_for_any_budget(row, manifest):
    backbone = row.backbone()
    alone, text_alone, sizes_alone = outputs(backbone, manifest, 1e-3)
    together, text_together, sizes_together = outputs(backbone, manifest, 1e3)
    assert text_alone == text_together
    assert len(set(text_alone)) > 2, "the model must say something for this test to mean anything"
    for one, other in zip(alone, together, strict=True):
        assert one.shape == other.shape
        assert np.isfinite(one).all()
        np.testing.assert_allclose(one, other, atol=1e-3)
    for index in SHORT:
        assert (len(alone[index]), text_alone[index]) == (0, "")
    spoken = len(LENGTHS) - len(SHORT)
    assert sizes_alone == [1] * spoken
    assert sizes_together == ([spoken] if row.exact else [1] * 4 + [2])


@pytest.mark.parametrize("row", {row.name: row for row in ARCHITECTURES}.values(), ids=lambda row: row.name)
def test_a_set_of_nothing_but_too_short_utterances(row, tmp_path, caplog):
    backbone = row.backbone()
    manifest = write_manifest(tmp_path, [row.shortest - 1, 5, row.shortest])
    texts = read(backbone, manifest.select([0, 1]))
    assert texts == ["", ""]
    assert f"2 utterances are shorter than {row.shortest / 16_000:g} s" in caplog.text
    [[_, emission]] = forward(backbone, manifest.select([2]), make_accelerator("no", None), settings=EvaluationConfig())
    [frames] = emission.frames
    assert 1 <= frames <= emission.values.shape[1]
    assert emission.values.isfinite().all()


def test_audio_without_a_sample_is_too_short(manifest):
    backbone = ARCHITECTURES[0].backbone()

    def silence_first(audio: np.ndarray, row, epoch: int) -> np.ndarray:
        return audio[:0] if row["id"] == "0" else audio

    texts = read(backbone, manifest)
    emptied = read(backbone, manifest, silence_first)
    assert texts[0]
    assert emptied == ["", *texts[1:]]


def test_the_lengths_of_the_audio_count_and_not_those_of_the_manifest(tmp_path):
    """A manifest may round: these four claim one length, and group norm would see the padding of three."""
    overrides = TINY_MODEL | {"feat_extract_norm": "group", "conv_bias": False, "initializer_range": 0.5}
    backbone = load_backbone(ModelConfig(init="w2v2-mini", overrides=overrides), seed=4)
    manifest = write_manifest(tmp_path, [16_000, 15_700, 15_400, 16_000], [1.0] * 4)
    alone, text_alone, _ = outputs(backbone, manifest, 1e-3)
    together, text_together, _ = outputs(backbone, manifest, 1e3)
    assert text_alone == text_together
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


def test_a_model_that_remembers_a_pass_runs_one_batch_at_a_time_and_trains_on(manifest):
    """Rotary positions are kept in the module: two passes at once mix them up, and tensors of inference mode stay."""
    row = next(row for row in ARCHITECTURES if row.config.get("position_embeddings_type") == "rotary")
    backbone = row.backbone()
    threads, running, most = torch.get_num_threads(), 0, 0

    def count(module, inputs, result=None):
        nonlocal running, most
        running += 1 if result is None else -1
        most = max(most, running)

    backbone.padding  # noqa: B018 - tried before the hooks
    backbone.module.register_forward_pre_hook(count)
    backbone.module.register_forward_hook(count)
    torch.set_num_threads(3)
    try:
        outputs(backbone, manifest, 1e-3)
    finally:
        torch.set_num_threads(threads)
    assert most == 1
    backbone.module.train()
    backbone.module(torch.randn(1, LENGTHS[2])).logits.sum().backward()
    assert backbone.module.lm_head.weight.grad is not None
