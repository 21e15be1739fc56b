"""What holding a mask costs in training, at wav2vec2-base size, beside torch.nn.utils.prune.

Three models with the same weights and mask take turns: dense (no mask), ours (`pruning.Enforcer`, gradients and
weights) and `torch.nn.utils.prune.custom_from_mask`, which recomputes every weight in every forward pass. One AdamW
step each, in turns, so that whatever else the machine does hits all three alike; medians and spread are printed as
shares of the dense step. The enforcer's own time is also measured directly, inside the step. So is what PARP pays
instead: one re-pruning of all prunable weights by global magnitude (new mask, its hash, weights zeroed), divided by the
updates between two of them, as a share of the dense step. PARP's model trains between two measurements.

    python scripts/benchmark_enforcement.py --seconds 10 --batch 2 --repeats 7
"""

import argparse
import json
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn.utils import prune
from transformers import Wav2Vec2Config, Wav2Vec2ForCTC

from audio_lottery import pruning
from audio_lottery.config import PruningConfig
from audio_lottery.pruning import Enforcer, Mask, find_scope, global_magnitude
from audio_lottery.training.hooks import KeepMask
from audio_lottery.training.policies import Repruned
from audio_lottery.training.state import Training

# Of --tiny.
TINY: dict[str, Any] = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 96}
TINY |= {"conv_dim": (32,) * 7, "num_conv_pos_embedding_groups": 4}
EXCLUDE = (r"^lm_head\.",)


def build(tiny: bool) -> Wav2Vec2ForCTC:
    """A wav2vec2-base (or a tiny relative) with random weights, ready to train."""
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        ctc_loss_reduction="mean",
        ctc_zero_infinity=True,
        layerdrop=0.0,
        apply_spec_augment=False,
        **(TINY if tiny else {}),
    )
    return Wav2Vec2ForCTC(config).train()


class Contender:
    """One model with its optimiser; `step` takes one training step and returns seconds and seconds spent enforcing."""

    def __init__(self, model: nn.Module, enforcer: Enforcer | None) -> None:
        self.model = model
        self.enforcer = enforcer
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)

    def step(self, audio: torch.Tensor, labels: torch.Tensor) -> tuple[float, float]:
        start = time.perf_counter()
        enforcing = 0.0
        self.optimizer.zero_grad()
        self.model(audio, labels=labels).loss.backward()
        if self.enforcer is not None:
            before = time.perf_counter()
            self.enforcer.mask_gradients()
            enforcing += time.perf_counter() - before
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        if self.enforcer is not None:
            before = time.perf_counter()
            self.enforcer.mask_weights()
            enforcing += time.perf_counter() - before
        return time.perf_counter() - start, enforcing


class Parp:
    """PARP's mask on a model of its own, as the search keeps it."""

    def __init__(self, mask: Mask, every: int, tiny: bool) -> None:
        self.contender = Contender(build(tiny), None)
        self.keeper = KeepMask(Repruned(mask, (mask.density(),), self._prune, every))
        parts: Any = SimpleNamespace(
            backbone=SimpleNamespace(module=self.contender.model),
            optimizer=self.contender.optimizer,
            accelerator=Accelerator(),
            progress=SimpleNamespace(step=every),
            total_steps=1 << 30,
        )
        self.training: Training = parts
        self.keeper.begin(self.training)

    def reprune(self) -> float:
        """Prune again; returns seconds."""
        start = time.perf_counter()
        self.keeper.before_step(self.training)
        return time.perf_counter() - start

    @staticmethod
    def _prune(model: nn.Module, density: float, among: Mask | None) -> Mask:
        return pruning.prune(model, density, among=among or pruning.find_scope(model, exclude=EXCLUDE))


def contenders(density: float, tiny: bool) -> tuple[dict[str, Contender], Mask]:
    """Dense, ours and torch's, from the same weights and mask."""
    models = {name: build(tiny) for name in ("dense", "audio_lottery", "torch.nn.utils.prune")}
    scope = find_scope(models["dense"], exclude=EXCLUDE)
    mask = global_magnitude(models["dense"], density, among=Mask.dense(models["dense"], scope.names))
    pruning.apply(mask, models["audio_lottery"])
    reparametrised = models["torch.nn.utils.prune"]
    for name, tensor in mask.items():
        prune.custom_from_mask(reparametrised.get_submodule(name.removesuffix(".weight")), "weight", tensor)
    enforcers = {"audio_lottery": Enforcer(mask, models["audio_lottery"])}
    return {name: Contender(model, enforcers.get(name)) for name, model in models.items()}, mask


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--density", type=float, default=0.2, help="kept / prunable (default 0.2)")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of an utterance in seconds (default 10)")
    parser.add_argument("--batch", type=int, default=2, help="utterances in a batch (default 2)")
    parser.add_argument("--repeats", type=int, default=7, help="rounds of turns after one warm-up (default 7)")
    parser.add_argument(
        "--every", type=int, default=PruningConfig().every, help="updates between two of PARP's prunings"
    )
    parser.add_argument("--tiny", action="store_true", help="a model of 0.1 M weights, to see that the script works")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    options = parser.parse_args()
    table, mask = contenders(options.density, options.tiny)
    parp = Parp(mask, options.every, options.tiny)
    generator = torch.Generator().manual_seed(0)
    audio = torch.randn(options.batch, int(options.seconds * 16_000), generator=generator)
    labels = torch.randint(5, 30, (options.batch, int(options.seconds * 12)), generator=generator)
    times: dict[str, list[float]] = {name: [] for name in table}
    enforcing: list[float] = []
    repruning: list[float] = []
    for repeat in range(options.repeats + 1):
        for name, contender in table.items():
            total, held = contender.step(audio, labels)
            if repeat:
                times[name].append(total)
                if contender.enforcer is not None:
                    enforcing.append(held)
        parp.contender.step(audio, labels)
        seconds = parp.reprune()
        if repeat:
            repruning.append(seconds)
    pruning.check(mask, table["audio_lottery"].model)
    parp.keeper.before_evaluation(parp.training)  # raises where pruned weights are left
    dense = statistics.median(times["dense"])
    rows: list[dict[str, Any]] = [
        {
            "method": name,
            "median_s": statistics.median(values),
            "min_s": min(values),
            "max_s": max(values),
            "ratio_to_dense": statistics.median(values) / dense,
            "enforcing_share": statistics.median(enforcing) / dense if name == "audio_lottery" else None,
        }
        for name, values in times.items()
    ]
    print(
        f"{mask.prunable / 1e6:.1f} M prunable weights, density {mask.density():.3f}, batch {options.batch} x "
        f"{options.seconds:g} s, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"{'method':<24}{'median s':>10}{'min':>8}{'max':>8}{'/ dense':>9}{'enforcing / dense step':>24}")
    for row in rows:
        share = "" if row["enforcing_share"] is None else f"{100 * row['enforcing_share']:.2f} %"
        print(
            f"{row['method']:<24}{row['median_s']:>10.3f}{row['min_s']:>8.3f}{row['max_s']:>8.3f}"
            f"{row['ratio_to_dense']:>9.3f}{share:>24}"
        )
    once = statistics.median(repruning)
    share = once / options.every / dense
    print(
        f"PARP: one re-pruning {once:.3f} s ({min(repruning):.3f} to {max(repruning):.3f}); every {options.every} "
        f"updates, amortised: {100 * share:.2f} % of a dense step"
    )
    rows.append(
        {
            "method": "parp re-prune",
            "median_s": once,
            "min_s": min(repruning),
            "max_s": max(repruning),
            "every": options.every,
            "amortised_share": share,
        }
    )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
