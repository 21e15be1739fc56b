"""How far float32 is from float64 in a pruned Whisper's encoder on real speech: torch's, and ours.

    python scripts/benchmark_exactness.py openai/whisper-tiny.en speech/test.jsonl --sparsity 0 0.4 0.6 0.8 0.9

The manifest is that of the corpus `jsonl`: JSON lines with audio_filepath, duration and text. Every prunable matrix is
pruned by magnitude by itself. The same weights and features then go through transformers' encoder in float64, which
counts as right, through transformers' in float32 and through ours. "rms" is the root mean square of what all states of
all utterances differ by from float64, "worst" the largest difference; ratios are ours by torch's.

Nothing is drawn at random. Which kernel a matrix gets depends on a timing at the first use in a process, and the worst
position, which layers have amplified, on that.
"""

import argparse
import copy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from audio_lottery.cli import run
from audio_lottery.config import CorpusConfig, ModelConfig
from audio_lottery.data.audio import read_audio
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.data.manifest import iterate
from audio_lottery.errors import ConfigError
from audio_lottery.models.load import load_trained
from audio_lottery.report.columns import format_columns
from audio_lottery.sparse.benchmark import PATTERNS
from audio_lottery.sparse.benchmark.own import pruned
from audio_lottery.storage import write_json


class Errors:
    """Differences from what is right: root mean square and largest, over any number of arrays."""

    def __init__(self) -> None:
        self._squares, self._count, self.worst = 0.0, 0, 0.0

    def add(self, found: Tensor, right: Tensor) -> None:
        """Count the differences of two arrays of one shape."""
        difference = found.double() - right
        self._squares += float(difference.square().sum())
        self._count += difference.numel()
        self.worst = max(self.worst, float(difference.abs().max()))

    @property
    def rms(self) -> float:
        """The root mean square."""
        return float((self._squares / self._count) ** 0.5)


@torch.inference_mode()
def measure(encoder: Any, features: list[Tensor]) -> dict[str, float]:
    """Errors of torch and of ours, over all features, each [1, bins, frames]."""
    from audio_lottery.sparse import accelerate  # numba takes a second to load

    fast, exact = accelerate(encoder, force=True), copy.deepcopy(encoder).double()
    torchs, ours = Errors(), Errors()
    for window in features:
        right = exact(window.double()).last_hidden_state
        torchs.add(encoder(window).last_hidden_state, right)
        ours.add(fast(window).last_hidden_state, right)
    return {
        "torch_rms": torchs.rms,
        "rms": ours.rms,
        "torch_worst": torchs.worst,
        "worst": ours.worst,
    }


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL", help="folder or Hub id of a Whisper")
    parser.add_argument("manifest", metavar="MANIFEST", type=Path, help="JSON lines")
    parser.add_argument("--limit", type=int, default=3, help="utterances, from the first on (default: 3)")
    parser.add_argument("--sparsity", type=float, nargs="+", default=[0.4, 0.8], help="zeros of every prunable matrix")
    parser.add_argument("--pattern", choices=PATTERNS, default="unstructured")
    parser.add_argument("--threads", type=int, default=1, help="of torch and ours (default: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    options = parser.parse_args()
    for sparsity in options.sparsity:
        if not 0 <= sparsity < 1:
            raise ConfigError(f"--sparsity {sparsity:g}: shares of zeros are expected, 0 or more, below 1")
    torch.set_num_threads(options.threads)
    backbone = load_trained(ModelConfig(init=options.model))
    if backbone.longest is None:
        raise ConfigError(f"MODEL '{options.model}' is no Whisper")
    corpus = CorpusConfig("jsonl", options.manifest.name, str(options.manifest.parent), options.limit)
    features = []
    for utterance in iterate(load_manifest([corpus], Path())):
        audio = read_audio(utterance.audio, utterance.start, utterance.end)
        if len(audio) <= backbone.longest:
            features.append(backbone.features([audio])["input_features"])
    if not features:
        raise ConfigError(f"{options.manifest}: no utterance fits the window; raise --limit")
    rows: list[dict[str, Any]] = []
    for sparsity in options.sparsity:
        model: Any = pruned(backbone.module.eval(), options.pattern, sparsity)
        rows.append({"sparsity": sparsity, **measure(model.model.encoder, features)})
    print(f"{options.model}, {options.pattern}; {len(features)} utterances, {options.threads} threads\n")
    header = ["sparsity", "torch rms", "ours", "ratio", "torch worst", "ours", "ratio"]
    body = []
    for row in rows:
        cells = [f"{100 * row['sparsity']:g} %"]
        for kind in ("rms", "worst"):
            cells += [f"{row['torch_' + kind]:.1e}", f"{row[kind]:.1e}", f"{row[kind] / row['torch_' + kind]:.1f}"]
        body.append(cells)
    print(format_columns(header, body, left=0))
    if options.json is not None:
        write_json(options.json, {"rows": rows})


if __name__ == "__main__":
    raise SystemExit(run(main))
