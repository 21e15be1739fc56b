"""A run folder without a training: transcripts with errors drawn at a rate, and metrics counted from them."""

from pathlib import Path

import numpy as np
import soundfile
import yaml

from audio_lottery.data.manifest import Utterance, build_manifest
from audio_lottery.evaluation.bootstrap import wer_interval
from audio_lottery.evaluation.compare import compare
from audio_lottery.evaluation.counts import ErrorCounts, count_errors
from audio_lottery.storage import sealed_folder, write_json

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "is",
    "was",
    "for",
    "with",
    "as",
    "his",
    "on",
    "be",
    "at",
    "by",
    "had",
    "not",
    "are",
    "but",
]
TENSORS = {
    "wav2vec2.feature_extractor.conv_layers.0.conv.weight": 5_120,
    "wav2vec2.feature_projection.projection.weight": 24_576,
    "wav2vec2.encoder.layers.0.attention.q_proj.weight": 36_864,
    "wav2vec2.encoder.layers.0.feed_forward.output_dense.weight": 147_456,
    "wav2vec2.encoder.layers.1.attention.q_proj.weight": 36_864,
    "wav2vec2.encoder.layers.1.feed_forward.output_dense.weight": 147_456,
}
SUITES = {"clean": 0.0, "noise10": 0.08, "noise0": 0.3}


def make_run(
    folder: Path,
    rounds: int = 12,
    *,
    seed: int = 0,
    base: float = 0.12,
    utterances: int = 60,
    suites: dict[str, float] = SUITES,
    reference: str | None = None,
    speaker: str = "speaker",
) -> Path:
    """Write a run of ``rounds`` pruned rounds into ``folder``; the first utterance says ``reference``, if given."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    settings = {"run_dir": str(folder), "seed": seed, "search": {"rounds": rounds}}
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    texts = [" ".join(np.random.default_rng(i).choice(WORDS, 4 + i % 9)) for i in range(utterances)]
    if reference is not None:
        texts[0] = reference
    ids = [f"talk-{i:03d}" for i in range(utterances)]
    _write_manifest(folder / "data" / "test", ids, texts)
    dense: dict[str, ErrorCounts] = {}
    for number in range(rounds + 1):
        density = 0.8**number
        wer = base * (1 - 0.12 * np.sin(np.pi * min(number, 9) / 9)) + 0.3 * max(0.0, number - 9) ** 1.4 / 60
        results = {}
        with sealed_folder(folder / f"round_{number:02d}") as path:
            for name, more in {"dev": 0.0, **suites}.items():
                hypotheses = [_mishear(text, wer + more * (1 + number / 30), rng) for text in texts]
                lines = ["id\treference\thypothesis\tspeaker"]
                lines += [f"{i}\t{t}\t{h}\t{speaker}" for i, t, h in zip(ids, texts, hypotheses, strict=True)]
                (path / "hypotheses").mkdir(exist_ok=True)
                (path / "hypotheses" / f"{name}.tsv").write_text("\n".join(lines) + "\n")
                counts = count_errors(ids, texts, hypotheses, "basic")
                results[name] = _result(name, counts, dense.setdefault(name, counts), number)
            write_json(path / "metrics.json", _metrics(number, density, seed, results))
            (path / "model.safetensors").write_bytes(b"")
    return folder


def _mishear(text: str, rate: float, rng: np.random.Generator) -> str:
    heard = []
    for word in text.split():
        draw = rng.uniform()
        if draw < 0.2 * rate:
            continue
        heard.append(str(rng.choice(WORDS)) if draw < 0.85 * rate else word)
        if draw > 1 - 0.15 * rate:
            heard.append(str(rng.choice(WORDS)))
    return " ".join(heard)


def _result(name: str, counts: ErrorCounts, dense: ErrorCounts, number: int) -> dict:
    snr = {"noise10": 10.0, "noise0": 0.0}.get(name)
    result = {
        "suite": name,
        "noise": None if snr is None else "babble",
        "snr_db": snr,
        "rir": None,
        "decoder": "greedy",
        "normalizer": "basic",
        "wer": counts.wer,
        "wer_interval": wer_interval(counts, resamples=100, seed=0).to_list(),
    }
    if number:
        result["difference_to_dense"] = compare(counts, dense, resamples=100, seed=0).to_dict()
    return result


def _metrics(number: int, density: float, seed: int, results: dict) -> dict:
    kept = {
        name: [round(size * density ** (0.6 + 0.15 * place)), size]
        for place, (name, size) in enumerate(TENSORS.items())
    }
    steps = [100 * (i + 1) for i in range(10)]
    dev = results["dev"]["wer"]
    history = [{"step": step, "wer": dev + 0.8 * np.exp(-step / 200), "cer": 0.1} for step in steps]
    return {
        "schema": 2,
        "audio_lottery": "0.1.0",
        "commit": "0123456789ab",
        "torch": "2.14",
        "transformers": "5.24",
        "accelerate": "1.15",
        "seed": seed,
        "precision": "no",
        "device": "cpu",
        "processes": 1,
        "threads": 2,
        "round": number,
        "mask_sha256": f"{number:064x}",
        "remaining_percent": 100 * density,
        "remaining_percent_all": 3 + 97 * density,
        "kept_per_tensor": kept,
        "training": {"best_step": steps[-1], "history": history},
        "dev": results["dev"],
        "test": {name: result for name, result in results.items() if name != "dev"},
        "bytes": 1_600_000,
        "bytes_gzip": round(1_500_000 * (0.05 + 0.95 * density)),
        "seconds": 300.0,
    }


def _write_manifest(folder: Path, ids: list[str], texts: list[str]) -> None:
    audio = folder.parents[1] / "audio"
    audio.mkdir(parents=True)
    rows = []
    for index, (utterance_id, text) in enumerate(zip(ids, texts, strict=True)):
        path = audio / f"{index}.wav"
        time = np.arange(8_000) / 16_000
        soundfile.write(path, 0.2 * np.sin(2 * np.pi * (200 + 10 * index) * time), 16_000)
        rows.append(Utterance(utterance_id, str(path), 0.0, 0.5, text, "speaker", 0.5, "synthetic"))
    build_manifest(rows, "synthetic").save_to_disk(str(folder))
