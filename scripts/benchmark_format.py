"""Size and speed of the sparse file at wav2vec2-base shapes, beside the entropy bound and the dense float32 file.

The model is `Wav2Vec2ForCTC(Wav2Vec2Config())` with random weights, biases included. All linear and convolution weights
are pruned at random but the positional convolution, which is weight-normed. Saving ends when the folder is synced and
renamed; loading ends when the transformers model is there and every hash and bit is checked. The first turn, in which
the kernels may compile, is not counted.

    python scripts/benchmark_format.py --json format.json
    python scripts/benchmark_format.py --patterns unstructured --densities 0.05 --values fp16 --tensors
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from audio_lottery.pruning import GroupPattern, Mask, apply, find_scope, parse_pattern
from audio_lottery.report.columns import format_columns
from audio_lottery.report.compression import format_saved
from audio_lottery.sparse.format import VALUES, SavedFile, load, save


def build(pattern: str, density: float) -> Wav2Vec2ForCTC:
    """The model with random weights and a random mask of ``pattern``; N:M patterns have their own density."""
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config()).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "layer_norm.weight")):  # constants would compress as no trained ones do
                parameter.add_(0.05 * torch.randn_like(parameter))
    generator = torch.Generator().manual_seed(1)
    shapes = dict(model.named_parameters())
    masks = {}
    for name in find_scope(model).names:
        shape = shapes[name].shape
        if pattern.startswith("nm:"):
            kept, of = map(int, pattern.split(":")[1:])
            if shape.numel() // shape[0] % of:
                continue  # the first convolution: ten inputs
            order = torch.rand(shape.numel() // of, of, generator=generator).argsort(dim=1)
            masks[name] = (order < kept).reshape(shape)
        else:
            spec = parse_pattern(pattern)
            if not isinstance(spec, GroupPattern):
                raise SystemExit(f"--patterns {pattern}: unstructured, blocks and nm:N:M are expected")
            masks[name] = spec.expand(torch.rand(spec.grid(shape), generator=generator) < density, shape)
    apply(Mask(masks), model)
    return model


def measure(model: Wav2Vec2ForCTC, values: str, repeats: int) -> tuple[SavedFile, dict[str, Any]]:
    """Save and load ``repeats`` + 1 times; what was written, and the row of the table."""
    saving, loading = [], []
    with tempfile.TemporaryDirectory() as temporary:
        for _ in range(repeats + 1):
            start = time.perf_counter()
            saved = save(model, Path(temporary) / "model", values=values)
            saving.append(time.perf_counter() - start)
            start = time.perf_counter()
            loaded = load(Path(temporary) / "model")
            loading.append(time.perf_counter() - start)
    if values == "fp32":
        state = loaded.state_dict()
        if not all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items()):
            raise SystemExit("what was loaded is not what was saved")
    pruned = [row for row in saved.rows if row.places and row.weights >= 4096]
    whole = [row for row in saved.rows if not row.places]
    # What the file would take if weights that are not sparse were kept in float32.
    exact_rest = saved.bytes + sum(4 * row.weights - row.value_bytes for row in whole)
    positions = sum(row.position_bytes for row in pruned)
    return saved, {
        "values": values,
        "density": sum(row.kept for row in pruned) / sum(row.weights for row in pruned),
        "bytes": saved.bytes,
        "dense_bytes": saved.dense_bytes,
        "ratio": saved.ratio,
        "ratio_with_dense_rest_in_fp32": exact_rest / saved.dense_bytes,
        "position_bytes": positions,
        "positions_to_entropy": positions / max(1e-9, sum(row.entropy_bytes for row in pruned)),
        "worst_tensor_to_entropy": max(row.position_bytes / row.entropy_bytes for row in pruned),
        "save_mb_per_s": [saved.dense_bytes / seconds / 1e6 for seconds in saving[1:]],
        "load_mb_per_s": [saved.dense_bytes / seconds / 1e6 for seconds in loading[1:]],
        "tensors": [
            {
                "name": row.name,
                "coding": row.coding,
                "unit": list(row.unit),
                "density": row.density,
                "position_bytes": row.position_bytes,
                "value_bytes": row.value_bytes,
                "bits_per_position": 8 * row.position_bytes / row.places if row.places else None,
                "entropy": 8 * row.entropy_bytes / row.places if row.places else None,
            }
            for row in saved.rows
        ],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--patterns", nargs="+", default=["unstructured", "block:16x1", "block:1x4", "nm:2:4"], help="of the masks"
    )
    parser.add_argument("--densities", nargs="+", type=float, default=[0.1, 0.05], help="kept / prunable")
    parser.add_argument("--values", nargs="+", default=list(VALUES), choices=VALUES)
    parser.add_argument("--repeats", type=int, default=5, help="turns after one that is not counted (default 5)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--tensors", action="store_true", help="print the table of tensors of every file")
    parser.add_argument("--json", type=Path, help="write rows and tensors to this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for pattern in options.patterns:
        # N:M says its density itself
        for density in options.densities[:1] if pattern.startswith("nm:") else options.densities:
            model = build(pattern, density)
            for values in options.values:
                saved, row = measure(model, values, options.repeats)
                rows.append({"pattern": pattern, **row})
                if options.tensors:
                    print(f"{pattern}, density {row['density']:.3f}, {values}\n{format_saved(saved, True)}\n")
    header = [
        "pattern",
        "values",
        "density",
        "ratio",
        "rest fp32",
        "positions / entropy",
        "worst",
        "save MB/s",
        "load MB/s",
    ]
    body = [
        [
            row["pattern"],
            row["values"],
            f"{row['density']:.3f}",
            f"{row['ratio']:.4f}",
            f"{row['ratio_with_dense_rest_in_fp32']:.4f}",
            f"{row['positions_to_entropy']:.3f}",
            f"{row['worst_tensor_to_entropy']:.3f}",
            *(
                f"{statistics.median(row[key]):.0f} [{min(row[key]):.0f}, {max(row[key]):.0f}]"
                for key in ("save_mb_per_s", "load_mb_per_s")
            ),
        ]
        for row in rows
    ]
    print(f"{options.threads} threads, torch {torch.__version__}, numpy {np.__version__}, {options.repeats} turns\n")
    print(format_columns(header, body, left=2))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
