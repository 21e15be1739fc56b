"""Speed of data loading alone: decode FLAC, add noise at an exact SNR, make batches; no model.

    python scripts/benchmark_loading.py                                       # synthetic FLAC, LibriSpeech's lengths
    python scripts/benchmark_loading.py --audio LibriSpeech/dev-clean --noise musan/noise

Every condition is loaded in turn by the package's own dataset and collator, in one process and one thread, --repeats
times. Real-time factor: seconds of audio per second of this process's CPU time (which other programs on the machine do
not change), and per second of wall clock; higher is faster. Medians are printed, and the range of the CPU factor.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import soundfile as sf
import torch
from datasets import Dataset

from audio_lottery.cli import run
from audio_lottery.config import AugmentConfig, SuiteConfig
from audio_lottery.data.audio import SAMPLE_RATE, probe
from audio_lottery.data.batching import AudioTransform, Collator, SpeechDataset, make_loader, pack
from audio_lottery.data.features import FeatureExtraction
from audio_lottery.data.noise import audio_files, make_augmenter, make_condition, pink_noise
from audio_lottery.models.characters import build_processor

# Quartiles of the utterances of LibriSpeech's train-clean sets, in seconds: few short ones, most of 12 to 16.
LENGTHS = ((0.0, 2.0), (0.25, 11.4), (0.5, 14.0), (0.75, 15.0), (1.0, 16.3))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--audio", type=Path, help="folder of FLAC files (default: 64 synthetic ones)")
    parser.add_argument("--utterances", type=int, default=64, help="use this many, spread over the folder (default 64)")
    parser.add_argument("--noise", type=Path, help="also measure noise from this folder")
    parser.add_argument("--seconds", type=float, default=120.0, help="padded seconds of a batch (default 120)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds of turns after one warm-up (default 3)")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        files = audio_files(options.audio, "all", "speech") if options.audio else synthesise(Path(scratch))
        chosen = np.linspace(0, len(files) - 1, min(options.utterances, len(files))).round().astype(int)
        manifest = manifest_of([files[i] for i in chosen])
        rows = measure(manifest, conditions(manifest, options.noise), options.seconds, options.repeats)
    seconds = float(sum(manifest["duration"]))
    print(f"{len(manifest)} utterances, {seconds:.0f} s, batches of {options.seconds:g} s, one thread")
    print(f"{'condition':<22}{'x real time (CPU)':>18}{'min':>7}{'max':>7}{'x real time (wall)':>20}")
    for row in rows:
        print(
            f"{row['condition']:<22}{row['cpu']:>18.0f}{row['cpu_min']:>7.0f}{row['cpu_max']:>7.0f}{row['wall']:>20.0f}"
        )
    if options.json:
        document = {"utterances": len(manifest), "audio_seconds": seconds, "repeats": options.repeats, "rows": rows}
        options.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


def synthesise(folder: Path, count: int = 64) -> list[Path]:
    """FLAC files of noise under syllables, with LibriSpeech's lengths and 16 speakers."""
    files = []
    shares, lengths = zip(*LENGTHS, strict=True)
    for i, seconds in enumerate(np.interp((np.arange(count) + 0.5) / count, shares, lengths)):
        n = int(seconds * SAMPLE_RATE)
        syllables = np.clip(np.sin(2 * np.pi * 3.5 * np.arange(n) / SAMPLE_RATE), 0.01, 1)
        path = folder / f"speaker{i % 16:02d}" / f"{i}.flac"
        path.parent.mkdir(exist_ok=True)
        sf.write(path, 0.1 * syllables * pink_noise(n, np.random.default_rng(i)), SAMPLE_RATE, subtype="PCM_16")
        files.append(path)
    return files


def manifest_of(files: list[Path]) -> Dataset:
    """One row a file; its speaker is the start of its name, as in LibriSpeech, or its folder."""
    rows = []
    for file in files:
        duration = probe(file).duration
        head, dash, _ = file.stem.partition("-")
        rows.append(
            {
                "id": file.stem,
                "audio": str(file),
                "start": 0.0,
                "end": duration,
                "text": "",
                "speaker": head if dash else file.parent.name,
                "duration": duration,
                "corpus": "benchmark",
            }
        )
    return Dataset.from_list(rows)


def conditions(manifest: Dataset, noise: Path | None) -> dict[str, AudioTransform | None]:
    """What is measured, by name."""
    suites = [
        SuiteConfig("clean"),
        SuiteConfig("white10", "white", 10.0),
        SuiteConfig("pink10", "pink", 10.0),
        SuiteConfig("rir", rir="generated"),
        SuiteConfig("rir-pink10", "pink", 10.0, "generated"),
    ]
    if noise is not None:
        suites.append(SuiteConfig("folder10", str(noise.absolute()), 10.0, noise_part="all"))
    if len(set(manifest["speaker"])) > 5:
        suites.append(SuiteConfig("babble10", "babble", 10.0))
    table = {suite.name: make_condition(suite, Path(), 0, manifest) for suite in suites}
    training = AugmentConfig(("white", "pink"), noise_prob=0.5, rirs="generated", rir_prob=0.3, speeds=(0.9, 1.0, 1.1))
    table["training (all, mixed)"] = make_augmenter(training, Path(), 0, manifest)
    return table


def measure(
    manifest: Dataset, table: dict[str, AudioTransform | None], batch_seconds: float, repeats: int
) -> list[dict[str, Any]]:
    """Load everything under every condition in turn; one row a condition."""
    durations = np.asarray(manifest["duration"])
    batches = pack(np.argsort(durations), durations, batch_seconds)
    collator = Collator(FeatureExtraction(build_processor().feature_extractor))
    factors: dict[str, list[tuple[float, float]]] = {name: [] for name in table}
    for repeat in range(repeats + 1):
        for name, transform in table.items():
            loader = make_loader(SpeechDataset(manifest, transform=transform), iter(batches), collator, 0)
            cpu, wall = time.process_time(), time.perf_counter()
            loaded = sum(len(batch["ids"]) for batch in loader)
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if loaded != len(manifest):
                raise RuntimeError(f"{name}: {loaded} utterances were loaded of {len(manifest)}")
            if repeat:
                factors[name].append((durations.sum() / cpu, durations.sum() / wall))
    return [
        {
            "condition": name,
            "cpu": statistics.median(cpu for cpu, _ in pairs),
            "cpu_min": min(cpu for cpu, _ in pairs),
            "cpu_max": max(cpu for cpu, _ in pairs),
            "wall": statistics.median(wall for _, wall in pairs),
        }
        for name, pairs in factors.items()
    ]


if __name__ == "__main__":
    raise SystemExit(run(main))
