"""One-shot masks of a trained model without any training: how far layers' outputs move, and what becomes of the WER.

    python scripts/second_order.py --densities 0.7 0.5 --out runs/second_order \
        --config whisper_tiny_libri --model.init FOLDER --data.root /corpora --pruning.allocation uniform

For each score (magnitude, Wanda, OBS) and density: the mask alone, and the mask with the kept weights moved by
`pruning.reconstruct`. A layer's error is the share of its outputs' energy on the calibration speech that the change
takes away or adds, with the dense model's inputs. WER is that of the first test suite. Every figure is written when it
is there; started again, the script goes on. Settings of a run follow the script's own: `pruning.calibration` utterances
of `data.train` calibrate, `pruning.allocation` and `pattern` say where weights go.
"""

import argparse
import copy
import csv
import sys
from itertools import product
from pathlib import Path
from statistics import fmean

import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from audio_lottery import pruning
from audio_lottery.cli import run
from audio_lottery.config import RunConfig
from audio_lottery.data.corpora.load import load_manifest
from audio_lottery.evaluation.evaluator import make_evaluator
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import load_trained
from audio_lottery.processes import make_accelerator
from audio_lottery.pruning import ScoreInputs, find_scope
from audio_lottery.report.columns import format_columns, percent, percent_interval
from audio_lottery.report.style import COLOURS, project_style, save_figures
from audio_lottery.settings import parse_config
from audio_lottery.storage import read_json, write_json
from audio_lottery.training.calibration import calibrate
from audio_lottery.training.speech import filter_training

SCORES = ("magnitude", "wanda", "obs")


def main() -> None:
    """Measure what is not there yet, print all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--densities", type=float, nargs="+", default=[0.7, 0.5], help="shares of weights that stay")
    parser.add_argument("--scores", choices=SCORES, nargs="+", default=list(SCORES))
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    own, others = parser.parse_known_args()
    config = parse_config(others, parser.prog)
    own.out.mkdir(parents=True, exist_ok=True)
    measure_dense(config, own.out)
    for density, score in product(own.densities, own.scores):
        measure(config, own.out, density, score)
    rows = [read_json(path) for path in sorted(own.out.glob("*.json"))]
    header = ["score", "density", "rebuilt", "layer error, mean", "largest", "WER %", "95 %", "S, D, I"]
    print(format_columns(header, [cells(row) for row in rows], left=1))
    with project_style():
        save_figures(draw([row for row in rows if row["layer_errors"]]), own.out / "layers")
    print(f"\nlayers: {own.out}/*.csv, layers.png")


def cells(row: dict) -> list[str]:
    """A row of the table."""
    errors = row["layer_errors"].values()
    spread = [f"{fmean(errors):.4f}", f"{max(errors):.4f}"] if errors else ["", ""]
    counts = ", ".join(str(row["result"][name]) for name in ("substitutions", "deletions", "insertions"))
    wer = [percent(row["result"]["wer"]), percent_interval(row["result"]["wer_interval"])]
    return [row["score"], f"{row['density']:g}", "yes" if row["rebuilt"] else "no", *spread, *wer, counts]


def draw(rows: list[dict]) -> Figure:
    """The errors of all layers, from the input to the output; a panel for each density, densest first."""
    densities = sorted({row["density"] for row in rows}, reverse=True)
    figure = Figure(figsize=(7.8, 1 + 2.4 * len(densities)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(densities), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for axes, density in zip(panels, densities, strict=True):
        for row in (row for row in rows if row["density"] == density):
            errors, colour = list(row["layer_errors"].values()), COLOURS[SCORES.index(row["score"])]
            label = f"{row['score']}, {'moved' if row['rebuilt'] else 'mask alone'}"
            # an error of zero, of a layer that was left whole, has no place on the axis
            axes.semilogy(errors, color=colour, linestyle="-" if row["rebuilt"] else ":", linewidth=1.4, label=label)
        axes.set_title(f"{100 * density:g} % of the weights", loc="left", fontsize=10)
        axes.set_ylabel("error of outputs")
        axes.grid(axis="y", color="#e3e3e3", linewidth=0.8)
    panels[-1].set_xlabel("prunable matrices, from the input to the output", loc="left")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right upper", frameon=False, fontsize=9)
    return figure


def measure(config: RunConfig, out: Path, density: float, score: str) -> None:
    """Errors and WER of one mask, with and without reconstruction."""
    names = {rebuilt: f"{score}_{density:g}{'_rebuilt' if rebuilt else ''}" for rebuilt in (False, True)}
    if all((out / f"{name}.json").is_file() for name in names.values()):
        return
    backbone = load_trained(config.model)
    root = Path(config.data.root).expanduser()
    exclude = list(backbone.heads) if config.pruning.exclude is None else config.pruning.exclude
    scope = find_scope(backbone.module, config.pruning.include, exclude)
    data = filter_training(load_manifest(config.data.train, root), backbone, config.data, config.training.augment)
    needs = ["activations", "grams"]
    found = calibrate(backbone, data, scope.names, needs, config.pruning.calibration, config.training.max_batch_seconds)
    mask = pruning.prune(
        backbone.module,
        density,
        score=score,
        pattern=config.pruning.pattern,
        allocation=config.pruning.allocation,
        among=scope,
        score_inputs=found,
    )
    rebuilt = copy.deepcopy(backbone)
    report = pruning.reconstruct(rebuilt.module, mask, ScoreInputs(grams=found.grams))
    pruning.apply(mask, backbone.module)
    table: list[list[object]] = [["parameter", "density", "masked", "rebuilt"]]
    kept = mask.per_tensor()
    table += [[name, kept[name][0] / kept[name][1], one.masked, one.rebuilt] for name, one in report.items()]
    with (out / f"{score}_{density:g}.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(table)
    for changed, model in ((False, backbone), (True, rebuilt)):
        errors = {name: one.rebuilt if changed else one.masked for name, one in report.items()}
        row = {"score": score, "density": density, "rebuilt": changed, "layer_errors": errors}
        write_json(out / f"{names[changed]}.json", row | {"result": recognise(config, model, names[changed])})


def measure_dense(config: RunConfig, out: Path) -> None:
    """WER of the model as it is."""
    if not (out / "dense.json").is_file():
        row = {"score": "dense", "density": 1.0, "rebuilt": False, "layer_errors": {}}
        write_json(out / "dense.json", row | {"result": recognise(config, load_trained(config.model), "dense")})


def recognise(config: RunConfig, backbone: Backbone, name: str) -> dict:
    """The result of the first test suite."""
    test = load_manifest(config.data.test, Path(config.data.root).expanduser())
    print(f"{name}: transcribing {len(test)} utterances", file=sys.stderr)
    evaluator = make_evaluator(config, make_accelerator("no", None), backbone)
    return evaluator.run(backbone, test, config.evaluation.suites[0])[0]


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    raise SystemExit(run(main))
