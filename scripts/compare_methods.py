"""WER of every pruning method at a few densities, over seeds: runs what is not there yet, then prints the table.

    make demo && python scripts/compare_methods.py --seeds 1 2 3 --parallel 2 --table table.md

Every method is a file of recipes/configs/methods on top of recipes/configs/w2v2_mini.yaml, with the same θ
(runs/demo/theta), the same training a round, and the densities of --targets; iterative methods go through them round
by round. Runs are folders below --out, one for each method and seed; a run that was stopped is continued. Random
pruning and random tickets take the masks of the imp run of their seed.
"""

import argparse
import csv
import os
import statistics
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from audio_lottery.cli import run
from audio_lottery.errors import RunError
from audio_lottery.evaluation.compare import aggregate

ROOT = Path(__file__).parent.parent
CONFIGS = ROOT / "recipes" / "configs"
METHODS = [
    "imp",
    "imp_theta0",
    "lr_rewinding",
    "lamp",
    "blocks_1x4",
    "nm_2_4",
    "omp",
    "mpi",
    "gmp",
    "parp",
    "random_layers",
    "random_ticket",
    "dense",
]
# Methods that are made from the masks of another, and so run after it.
AFTER_IMP = ("random_layers", "random_ticket", "shuffled")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="names of files in recipes/configs/methods")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--targets", type=float, nargs="+", default=[0.512, 0.262, 0.134, 0.069, 0.035])
    parser.add_argument("--parallel", type=int, default=1, help="runs side by side, one thread each where above 1")
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--table", type=Path, default=None, help="write the table to this Markdown file")
    parser.add_argument("--table-only", action="store_true", help="run nothing; the table of what is finished")
    parser.add_argument("extra", nargs="*", help="settings of every run, after --: -- --training.max_steps 200")
    options = parser.parse_args()
    jobs = [(method, seed) for seed in options.seeds for method in options.methods]
    for wave in () if options.table_only else (False, True):
        with ThreadPoolExecutor(options.parallel) as pool:
            due = [job for job in jobs if (job[0] in AFTER_IMP) is wave]
            for _ in pool.map(lambda job: search(*job, options), due):
                pass
    text = table(options)
    print(text)
    if options.table is not None:
        options.table.write_text(text + "\n", encoding="utf-8")


def search(method: str, seed: int, options: argparse.Namespace) -> None:
    """One run, or what is left of it."""
    folder = options.out / f"{method}-seed{seed}"
    command = [sys.executable, str(ROOT / "recipes" / "w2v2_imp.py"), "--config", str(CONFIGS / "w2v2_mini.yaml")]
    command += ["--config", str(CONFIGS / "methods" / f"{method}.yaml"), "--run_dir", str(folder), "--seed", str(seed)]
    if method != "nm_2_4":  # has its own densities
        command += ["--pruning.targets", str(options.targets), "--search.rounds", str(len(options.targets))]
    if method in AFTER_IMP:
        command += ["--pruning.ticket", str(options.out / f"imp-seed{seed}")]
    threads = {"OMP_NUM_THREADS": "1"} if options.parallel > 1 else {}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (options.out / f"{method}-seed{seed}.log").open("ab") as log:
        status = subprocess.run(command + options.extra, stdout=log, stderr=log, env=os.environ | threads, check=False)
    if status.returncode:
        raise RunError(f"{method}, seed {seed} failed; the last lines of {log.name} say why")
    print(f"{method}, seed {seed}: done", file=sys.stderr)


def table(options: argparse.Namespace) -> str:
    """Test WER % by method and remaining weights: mean over the seeds, and its 95 % interval (Student's t)."""
    found: dict[str, dict[float, list[float]]] = {}
    runs: Counter[str] = Counter()
    for method in options.methods:
        for seed in options.seeds:
            path = options.out / f"{method}-seed{seed}" / "summary.csv"
            rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines())) if path.exists() else []
            if len(rows) <= len(options.targets) and not (method == "nm_2_4" and len(rows) > 1):
                print(f"{method}, seed {seed}: not finished, left out", file=sys.stderr)
                continue
            runs[method] += 1
            # Round 0 of all is the dense model; the rounds of the dense control are dense too, and count as their mean.
            once: dict[float, list[float]] = {}
            for row in rows:
                place = 100.0 if row["round"] == "0" else round(float(row["remaining_percent"]), 1)
                if method != "dense" or row["round"] != "0":
                    once.setdefault(place, []).append(100 * float(row["test_wer"]))
            for place, values in once.items():
                found.setdefault(method, {}).setdefault(place, []).append(statistics.fmean(values))
    places = sorted({place for cells in found.values() for place in cells}, reverse=True)
    lines = ["| method | seeds | " + " | ".join(f"{place:g} %" for place in places) + " |"]
    lines.append("|---|" + "---:|" * (len(places) + 1))
    for method, cells in found.items():
        lines.append(
            f"| {method} | {runs[method]} | " + " | ".join(_cell(cells.get(place, [])) for place in places) + " |"
        )
    return "\n".join(lines)


def _cell(values: list[float]) -> str:
    if not values:
        return ""
    summary = aggregate(values)
    if summary.interval is None:
        return f"{summary.mean:.1f}"
    return f"{summary.mean:.1f} [{summary.interval[0]:.1f}, {summary.interval[1]:.1f}]"


if __name__ == "__main__":
    raise SystemExit(run(main))
