"""Resident memory of a sparse file on the kernels: after the imports, after loading, after a call; each in a process of
its own.

    python scripts/benchmark_memory.py                                          # parakeet-ctc-0.6b shapes, 90 % zeros
    python scripts/benchmark_memory.py --shapes cnn-lstm --pattern 16x2 --precisions bfloat16
    python scripts/benchmark_memory.py --folder model                           # a folder with model.sparse.safetensors

The file is made in a process of its own as well, because that one needs the dense model. docs/benchmark-inference.md
says what the numbers are.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from audio_lottery import pruning
from audio_lottery.cli import run
from audio_lottery.models.shapes import SHAPES
from audio_lottery.sparse import load_accelerated
from audio_lottery.sparse.benchmark import PATTERNS
from audio_lottery.sparse.format import save
from audio_lottery.sparse.precision import PRECISIONS
from audio_lottery.storage import write_json

# Of torch's CUDA build, of the packages that it brings, and triton's; torch's build for CPUs has none of them.
_GPU_LIBRARY = re.compile(r"/(nvidia|cuda|triton)/|(torch|c10)_cuda|torch_nvshmem")


def main() -> None:
    """Make the file, load it in fresh processes, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", choices=list(SHAPES), default="parakeet-ctc-0.6b", help="of random weights")
    parser.add_argument("--sparsity", type=float, default=0.9, help="share of zeros (default: 0.9)")
    parser.add_argument("--pattern", choices=list(PATTERNS), default="unstructured", help="what is pruned as a whole")
    parser.add_argument("--folder", type=Path, help="load this folder instead")
    parser.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS), help="of the kernels")
    parser.add_argument("--seconds", type=float, default=10.0, help="of audio in the call (default: 10)")
    parser.add_argument("--threads", type=int, default=2, help="default: 2")
    parser.add_argument("--seed", type=int, default=0, help="of weights and audio (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows to this file")
    parser.add_argument("--step", choices=("make", "load"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.step == "make":
        make(options)
    elif options.step == "load":
        print(json.dumps(measure(options)))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    """A process for every precision."""
    with tempfile.TemporaryDirectory(prefix="audio-lottery-memory-") as scratch:
        if options.folder is None:
            options.folder = Path(scratch) / "model"
            _process(options, "make", options.precisions[0])
        rows = [json.loads(_process(options, "load", precision)) for precision in options.precisions]
    print(f"{options.folder.name}: {rows[0]['parameters'] / 1e6:.0f} M parameters, {options.seconds:g} s of audio")
    columns = ("imports", "loaded", "called", "libraries", "gpu", "peak")
    heads = "".join(f"{column:>10}" for column in columns)
    print(f"{'precision':<12}{'file':>8}{heads}   MB; seconds to load, call")
    for row in rows:
        sizes = "".join(f"{row[column] / 1e6:>10.0f}" for column in columns)
        file = f"{row['file'] / 1e6:>8.0f}"
        print(f"{row['precision']:<12}{file}{sizes}   {row['load_seconds']:.1f}, {row['call_seconds']:.3f}")
    if options.json is not None:
        write_json(options.json, rows)


def make(options: argparse.Namespace) -> None:
    """The file, from random weights."""
    model = SHAPES[options.shapes](options.seed).model
    pruning.apply(
        pruning.prune(model, 1 - options.sparsity, pattern=PATTERNS[options.pattern], allocation="uniform"), model
    )
    save(model, options.folder)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Resident bytes of this process, which has loaded nothing else."""
    imports = resident()
    begin = time.perf_counter()
    model = load_accelerated(options.folder, precision=options.precisions[0])
    loading = time.perf_counter() - begin
    loaded = resident()
    config = getattr(model.config, "encoder_config", model.config)
    bins = getattr(config, "num_mel_bins", None) or config.num_frequency_bins
    features = torch.randn(1, round(100 * options.seconds), bins, generator=torch.Generator().manual_seed(options.seed))
    calls = []
    with torch.inference_mode():
        for _ in range(3):
            begin = time.perf_counter()
            model(input_features=features)
            calls.append(time.perf_counter() - begin)
    return {
        "precision": options.precisions[0],
        "parameters": sum(parameter.numel() for parameter in model.parameters())
        + sum(getattr(module, "weights", 0) for module in model.modules() if not list(module.parameters())),
        "file": (options.folder / "model.sparse.safetensors").stat().st_size,
        "imports": imports,
        "loaded": loaded,
        "called": resident(),
        "libraries": resident("RssFile"),
        "gpu": of_gpu_libraries(),
        "peak": resident("VmHWM"),
        "load_seconds": loading,
        "call_seconds": min(calls),
    }


def resident(field: str = "VmRSS") -> int:
    """Bytes of this process in memory, shared libraries among them."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    [size] = [line.split()[1] for line in lines if line.startswith(f"{field}:")]
    return 1024 * int(size)


def of_gpu_libraries() -> int:
    """Bytes of this process that are pages of libraries for NVIDIA GPUs: those of torch's CUDA build, and triton."""
    total, counts = 0, False
    for line in Path("/proc/self/smaps").read_text(encoding="utf-8").splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):  # a mapping begins: addresses, rights, offset, device, inode, file
            counts = bool(_GPU_LIBRARY.search(rest[4])) if len(rest) > 4 else False
        elif counts and name == "Rss:":
            total += 1024 * int(rest[0])
    return total


def _process(options: argparse.Namespace, step: str, precision: str) -> str:
    names = ("shapes", "sparsity", "pattern", "folder", "seconds", "threads", "seed")
    given = [part for name in names for part in (f"--{name}", str(getattr(options, name)))]
    command = [sys.executable, __file__, "--step", step, "--precisions", precision, *given]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    raise SystemExit(run(main))
