"""Seconds and memory of making a mask, at wav2vec2-base size, beside torch.nn.utils.prune.

Every measurement is a fresh process: it builds a wav2vec2-base with random weights (94.4 M parameters), resets the
kernel's high-water mark of its resident memory (/proc/self/clear_refs, Linux), makes one mask, and reports the seconds
and how far the high-water mark rose above what was resident before. torch's in-place `global_unstructured` is the
baseline; it, too, leaves one mask behind. Methods take turns, so that whatever else the machine does hits all alike;
the table shows medians. The load of the machine is printed: figures from a busy machine are not worth quoting.

    python scripts/benchmark_pruning.py --repeats 3 --threads 2 --json benchmark_pruning.json
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune as torch_prune
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from audio_lottery import pruning
from audio_lottery.pruning import Mask, ScoreInputs, find_scope

BASELINE = "torch global_unstructured"
DENSITY = 0.2
# the first convolution sees one channel through ten taps, which groups of four do not divide
UNDIVIDED = r"conv_layers\.0\.conv"
METHODS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "global magnitude": {},
    "global magnitude, next round": {},
    "LAMP": {"score": "lamp"},
    "uniform": {"allocation": "uniform"},
    "ERK": {"allocation": "erk"},
    "random": {"score": "random"},
    "Wanda": {"score": "wanda", "allocation": "uniform"},
    "2:4": {"pattern": "nm:2:4", "density": 0.5, "exclude": UNDIVIDED},
    "blocks 16x1": {"pattern": "block:16x1"},
    "blocks 1x4": {"pattern": "block:1x4"},
    "rows": {"pattern": "rows"},
}


def task(method: str, model: nn.Module) -> Callable[[], object]:
    """What is measured, with everything that it is given prepared."""
    if method == BASELINE:
        layers = [(model.get_submodule(name.removesuffix(".weight")), "weight") for name in find_scope(model).names]
        return lambda: torch_prune.global_unstructured(
            layers, pruning_method=torch_prune.L1Unstructured, amount=1 - DENSITY
        )
    settings: dict[str, Any] = {"density": DENSITY, **METHODS[method]}
    if method.endswith("next round"):
        settings["among"] = pruning.prune(model, DENSITY / 0.8)
    if "exclude" in settings:
        settings["among"] = find_scope(model, exclude=[settings.pop("exclude")])
    if settings.get("score") == "wanda":
        parameters = dict(model.named_parameters())
        norms = {name: torch.rand(parameters[name][0].numel()) for name in find_scope(model).names}
        settings["score_inputs"] = ScoreInputs(activations=norms)
    return lambda: pruning.prune(model, **settings)


def measure(method: str, threads: int) -> dict[str, float | int | str]:
    """Make one mask in this process."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    small = nn.Sequential(nn.Conv1d(8, 16, 4), nn.Linear(16, 16))
    model = Wav2Vec2ForCTC(Wav2Vec2Config())
    run = task(method, model)
    pruning.prune(small, 0.5)  # imports and thread pools are warm for all
    torch.sort(torch.rand(100_000))
    Path("/proc/self/clear_refs").write_text("5")
    before = status_mb("VmRSS")
    start = time.perf_counter()
    made = run()
    seconds = time.perf_counter() - start
    peak = status_mb("VmHWM") - before
    kept = made.kept if isinstance(made, Mask) else None
    return {
        "method": method,
        "seconds": seconds,
        "peak_extra_mb": peak,
        "kept": kept if kept is not None else sum(int(mask.count_nonzero()) for mask in torch_masks(model)),
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def torch_masks(model: nn.Module) -> list[torch.Tensor]:
    """The masks that torch's pruning keeps in the model."""
    return [buffer for name, buffer in model.named_buffers() if name.endswith(".weight_mask")]


def status_mb(field: str) -> float:
    """A memory figure of this process in 10⁶ bytes."""
    found = re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise SystemExit(f"/proc/self/status has no {field}: this benchmark needs Linux")
    return int(found[1]) * 1024 / 1e6


def in_fresh_process(method: str, threads: int) -> dict[str, float | int | str]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--one", method, "--threads", str(threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure in turns and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS), help="default: all")
    parser.add_argument("--repeats", type=int, default=3, help="turns of every method (default 3)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="torch threads (default: all cores)")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    parser.add_argument("--one", choices=list(METHODS), help="measure one method in this process and print it as JSON")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.threads)))
        return
    load_before = os.getloadavg()[0]
    found: dict[str, list[dict[str, float | int | str]]] = {method: [] for method in options.methods}
    for _ in range(options.repeats):
        for method in options.methods:
            found[method].append(in_fresh_process(method, options.threads))
    rows = [
        {
            "method": method,
            "seconds": statistics.median(float(row["seconds"]) for row in turns),
            "seconds_min": min(float(row["seconds"]) for row in turns),
            "seconds_max": max(float(row["seconds"]) for row in turns),
            "peak_extra_mb": statistics.median(float(row["peak_extra_mb"]) for row in turns),
            "kept": turns[0]["kept"],
            "parameters": turns[0]["parameters"],
            "threads": options.threads,
            "repeats": options.repeats,
        }
        for method, turns in found.items()
    ]
    base = next((row for row in rows if row["method"] == BASELINE), None)
    print(
        f"{int(rows[0]['parameters']) / 1e6:.1f} M parameters, density {DENSITY} (2:4: 0.5), {options.threads} "
        f"threads, torch {torch.__version__}, load of the machine before: {load_before:.1f}"
    )
    print(f"{'method':<30}{'median s':>10}{'min':>8}{'max':>8}{'faster':>9}{'peak extra MB':>16}{'share':>8}")
    for row in rows:
        faster = f"{base['seconds'] / row['seconds']:.1f}x" if base else ""
        share = f"{row['peak_extra_mb'] / base['peak_extra_mb']:.2f}" if base else ""
        print(
            f"{row['method']:<30}{row['seconds']:>10.3f}{row['seconds_min']:>8.3f}{row['seconds_max']:>8.3f}"
            f"{faster:>9}{row['peak_extra_mb']:>16.0f}{share:>8}"
        )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
