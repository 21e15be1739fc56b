"""The mask of every round: how sparse, made from what, and what becomes of it while the round trains."""

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from datasets import Dataset
from safetensors.torch import load_file
from torch import nn

from audio_lottery import pruning
from audio_lottery.config import PruningConfig, RunConfig
from audio_lottery.data.batching import Batch, Collator, SpeechDataset, make_loader, pack
from audio_lottery.data.filters import prepare_training
from audio_lottery.errors import ConfigError, MaskError, RunError
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.models.ctc import Recogniser, ctc_loss, load_folder
from audio_lottery.pruning import Evidence, Mask, Rule, find_scope
from audio_lottery.storage import is_sealed, write_json
from audio_lottery.training.masking import Adjusting, Fixed, Gradual, MaskPolicy, Prune
from audio_lottery.training.processes import require_same

logger = logging.getLogger(__name__)

# Scores that look at a calibration set besides the weights.
_CALIBRATED = {"taylor", "wanda"}
# Movement scores of a round's training, in its folder.
MOVEMENT_FILE = "movement.safetensors"


def check_score(settings: PruningConfig) -> None:
    """Refuse movement scores where no training comes before the pruning.

    Raises:
        ConfigError: names the method and what goes with it.
    """
    if settings.score == "movement" and settings.method not in ("imp", "omp"):
        raise ConfigError(
            f"pruning.score movement is gathered while the round before trains, and pruning.method {settings.method} "
            "starts every round from θ; use imp or omp, or score magnitude"
        )


def gathers_movement(settings: PruningConfig, number: int) -> bool:
    """Whether round ``number`` gathers movement scores for the rounds after it.

    Every round of IMP does, the last one too: ``search.rounds`` may grow. One-shot pruning looks at round 0 only.
    """
    prunes = settings.ticket is None and settings.control != "dense"
    return settings.score == "movement" and prunes and (settings.method == "imp" or number == 0)


def mask_source(settings: PruningConfig, number: int, folder: RunFolder) -> Path | None:
    """Folder of the model whose weights the mask of round ``number`` is made from; None where none are ranked."""
    if number == 0 or settings.ticket is not None or settings.control == "dense" or settings.method == "gmp":
        return None
    return {"imp": folder.round(number - 1), "omp": folder.round(0)}.get(settings.method, folder.theta)


def density_of(config: PruningConfig, number: int, start: float = 1.0) -> float:
    """Density that round ``number`` ends with, of the prunable weights.

    Args:
        config: rate or targets.
        number: the round; round 0 has the density it starts with.
        start: density of round 0.
    """
    if number == 0 or config.control == "dense":
        return start
    return config.targets[number - 1] if config.targets else start * (1 - config.rate) ** number


def first_mask(config: RunConfig, number: int, folder: RunFolder, train: Dataset, accelerator: Accelerator) -> Mask:
    """The mask that a round starts with: made on the main process, read from its file by all, compared by hash.

    Raises:
        MaskError: density, pattern and scope do not go together, or a mask does not fit the model.
        RunError: the run of ``pruning.ticket`` lacks the round, or processes disagree.
    """
    path = folder.work(folder.round(number).name) / "mask.safetensors"
    if accelerator.is_main_process:
        _make_mask(config, number, folder, train).save(path)
    accelerator.wait_for_everyone()
    mask = Mask.load(path)
    require_same(accelerator, mask.sha256(), f"the mask of round {number}")
    return mask


def policy_of(config: RunConfig, number: int, mask: Mask, folder: RunFolder) -> MaskPolicy:
    """What becomes of a round's first mask while it trains."""
    settings = config.pruning
    if number == 0 or settings.ticket is not None or settings.control == "dense":
        return Fixed(mask)
    prune = _prune(settings, config.seed + number)
    start = _round_0(folder)
    within = None if settings.start is None else start  # a dense mask allows every weight; None costs nothing
    target = density_of(settings, number, start.density())
    if settings.method == "gmp":
        return Gradual(mask, target, prune, settings.begin, settings.end, settings.every)
    if settings.method == "parp":
        return Adjusting(mask, (target,), prune, settings.every, within)
    if settings.method == "parp_p":
        return Adjusting(mask, _stages(settings, target, start.density()), prune, settings.every, within)
    return Fixed(mask)


def rehearse(config: RunConfig, folder: RunFolder) -> None:
    """Make every round's mask on θ by magnitude, so that settings that do not go together fail before any training.

    Raises:
        MaskError: as `first_mask`.
    """
    settings = config.pruning
    if settings.ticket is not None or settings.control == "dense" or is_sealed(folder.round(0)):
        return  # nothing is pruned, or it was rehearsed before round 0 was trained
    model = load_folder(folder.theta).model
    mask = _dense_or_start(settings, model, folder)
    start, prune = mask.density(), partial(_prune(settings, config.seed, score="magnitude"), model)
    for number in range(1, config.search.rounds + 1):
        made = prune(density_of(settings, number, start), mask)
        mask = made if settings.method == "imp" else mask


def _make_mask(config: RunConfig, number: int, folder: RunFolder, train: Dataset) -> Mask:
    settings = config.pruning
    if settings.ticket is not None:
        return _ticket_mask(config, number, folder)
    if number == 0:
        return _dense_or_start(settings, load_folder(folder.theta).model, folder)
    start = _round_0(folder)
    source = mask_source(settings, number, folder)
    if source is None:
        return start
    among = Mask.load(source / "mask.safetensors") if settings.method == "imp" else start
    recogniser = load_folder(source)
    density = density_of(settings, number, start.density())
    if settings.method == "parp_p":
        density = _stages(settings, density, start.density())[0]
    evidence = Evidence(seed=config.seed + number)
    if settings.score == "movement":
        evidence = Evidence(movement=load_file(source / MOVEMENT_FILE))
    if settings.score in _CALIBRATED:
        evidence = _calibrate(config, recogniser, among, train)
    return _prune(settings, config.seed + number, evidence)(recogniser.model, density, among)


def _round_0(folder: RunFolder) -> Mask:
    """The mask of round 0: dense, or the one that was given."""
    return Mask.load(folder.round(0) / "mask.safetensors")


def _stages(settings: PruningConfig, target: float, start: float) -> tuple[float, ...]:
    """Densities of PARP-P, in equal steps from that of round 0 to the target."""
    return tuple(float(step) for step in np.linspace(start, target, settings.stages + 1)[1:])


def _dense_or_start(settings: PruningConfig, model: nn.Module, folder: RunFolder) -> Mask:
    """The mask of round 0: everything prunable, or the mask file that was given."""
    scope = find_scope(model, settings.include, settings.exclude)
    write_json(folder.path / "scope.json", {"prunable": scope.names, "left_out": scope.left_out})
    dense = Mask.dense(model, scope.names)
    if settings.start is None:
        return dense
    start = Mask.load(Path(settings.start).expanduser())
    start.check_fits(model)
    if list(start) != list(dense):
        strangers = sorted(set(start) ^ set(dense))
        raise MaskError(
            f"{settings.start} has another scope than pruning.include and exclude: {', '.join(strangers[:5])}"
        )
    return start


def _prune(settings: PruningConfig, seed: int, evidence: Evidence | None = None, score: str | None = None) -> Prune:
    """Score, pattern and allocation of the settings over their scope."""
    rules = [Rule(rule.match, rule.dense, rule.floor) for rule in settings.rules]

    def prune(model: nn.Module, density: float, among: Mask | None) -> Mask:
        return pruning.prune(
            model,
            density,
            score=score or settings.score,
            pattern=settings.pattern,
            allocation=settings.allocation,
            among=among,
            include=settings.include,
            exclude=settings.exclude,
            rules=rules,
            evidence=evidence or Evidence(seed=seed),
            seed=seed,
        )

    return prune


def _ticket_mask(config: RunConfig, number: int, folder: RunFolder) -> Mask:
    settings = config.pruning
    other = RunFolder(Path(str(settings.ticket)).expanduser())
    path = other.round(number)
    if not is_sealed(path):
        raise RunError(f"pruning.ticket: {path} is not there or not finished; name a run with {number} rounds or more")
    mask = Mask.load(path / "mask.safetensors")
    model = load_folder(folder.theta).model
    mask.check_fits(model)
    write_json(folder.path / "scope.json", {"prunable": list(mask), "left_out": {}, "ticket": str(settings.ticket)})
    seed = config.seed + 1000 * number
    if number == 0 or settings.control == "none":
        return mask
    previous = Mask.load(folder.round(number - 1) / "mask.safetensors")
    if settings.control == "random_layers":
        return pruning.random_like(mask, seed, settings.pattern, previous)
    if settings.control == "random_uniform":
        return pruning.random_uniform(mask, seed)
    if settings.control == "shuffled":
        return pruning.shuffled(mask, seed)
    raise ConfigError(f"pruning.control {settings.control} does not go with pruning.ticket")


def _calibrate(config: RunConfig, recogniser: Recogniser, among: Mask, train: Dataset) -> Evidence:
    """Activations and |w · ∂L/∂w| over some training utterances."""
    data = prepare_training(train, recogniser.processor, recogniser.frames, config.data)
    rows = np.linspace(0, len(data.manifest) - 1, min(config.pruning.calibration, len(data.manifest))).round()
    manifest = data.manifest.select(rows.astype(int))
    batches = pack(range(len(manifest)), np.asarray(manifest["duration"]), config.training.max_batch_seconds)
    loader = make_loader(SpeechDataset(manifest, data.encode), iter(batches), Collator(recogniser.processor), 0)

    def loss(model: nn.Module, batch: Mapping[str, Any]) -> torch.Tensor:
        logits = model(**batch["inputs"]).logits
        frames = recogniser.frame_counts(batch["samples"])
        return ctc_loss(logits, frames, batch["labels"], recogniser.blank)

    def read() -> Iterator[Batch]:
        yield from loader

    wanda = config.pruning.score == "wanda"
    return pruning.collect(recogniser.model, list(among), read(), loss=loss, activations=wanda, saliency=not wanda)
