"""Seconds and memory of second-order pruning at the size of wav2vec2-base: calibration, mask, reconstruction.

    python scripts/benchmark_second_order.py --utterances 64 --seconds 10 --density 0.5 --threads 2

Weights are random (94.4 M parameters) and the speech is noise: neither changes what is computed. "extra" is how far the
process's peak of resident memory rose above what the loaded model took (Linux). The load of the machine is printed:
figures from a busy machine are not worth quoting.
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from audio_lottery import pruning
from audio_lottery.cli import run
from audio_lottery.pruning import ScoreInputs, find_scope
from audio_lottery.report.columns import format_columns
from audio_lottery.sparse.benchmark.interleaved import load_before

HEAD = (r"^lm_head\.",)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--utterances", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each")
    parser.add_argument("--density", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    load, busy = load_before()
    model = Wav2Vec2ForCTC(Wav2Vec2Config()).eval()
    scope = find_scope(model, exclude=HEAD)
    batches = [torch.randn(1, round(16_000 * options.seconds)) for _ in range(options.utterances)]
    before, rows = peak(), []

    def timed(name: str, work: Callable[[], Any]) -> Any:
        begin = time.perf_counter()
        found = work()
        rows.append([name, f"{time.perf_counter() - begin:.0f}", f"{peak() - before:.2f}"])
        print(*rows[-1], file=sys.stderr)
        return found

    collected = timed(
        "calibration",
        lambda: pruning.collect(
            model, scope.names, batches, loss=logits, activations=False, saliency=False, grams=True
        ),
    )
    seen = ScoreInputs(grams=collected.grams)
    choose: dict[str, Any] = {"score": "obs", "allocation": "uniform", "among": scope, "score_inputs": seen}
    mask = timed("mask", lambda: pruning.prune(model, options.density, **choose))
    report = timed("reconstruction", lambda: pruning.reconstruct(model, mask, seen))
    print(format_columns(["", "seconds", "extra, GB, so far"], rows, left=1))
    rebuilt, masked = (
        sum(getattr(one, name) for one in report.values()) / len(report) for name in ("rebuilt", "masked")
    )
    print(f"\nlayers' errors on average: {masked:.4f} masked, {rebuilt:.4f} moved; load before: {load:.2f}")
    if busy:
        print(busy)


def logits(model: Wav2Vec2ForCTC, batch: torch.Tensor) -> torch.Tensor:
    """What `collect` runs the model for."""
    return model(batch).logits.sum()


def peak() -> float:
    """GB, the most that was resident so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    raise SystemExit(run(main))
