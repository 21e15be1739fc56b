"""The search for winning tickets: train, prune, rewind, evaluate, round by round.

Every stage starts with "if my result exists and is whole, return it", so running the same command again continues a run
that was stopped, at the last checkpoint of the stage that was interrupted.
"""

import logging
import shutil
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from datasets import Dataset
from safetensors.torch import save_file

from audio_lottery import pruning
from audio_lottery.config import RunConfig, SuiteConfig, TrainingConfig, validate
from audio_lottery.data.filters import prepare_training
from audio_lottery.data.noise import check_parts, make_augmenter
from audio_lottery.evaluation.compare import compare
from audio_lottery.evaluation.counts import count_errors
from audio_lottery.evaluation.decoding import make_decoder
from audio_lottery.evaluation.suites import Transcripts, run_suite
from audio_lottery.evaluation.transcripts import read_transcripts
from audio_lottery.lottery.data import RunData, load_run_data
from audio_lottery.lottery.keep import check_sources, remove_models
from audio_lottery.lottery.masks import (
    MOVEMENT_FILE,
    check_score,
    first_mask,
    gathers_movement,
    policy_of,
    rehearse,
)
from audio_lottery.lottery.provenance import provenance
from audio_lottery.lottery.rewind import start_of_round
from audio_lottery.lottery.run_folder import MODEL_FILE, RunFolder
from audio_lottery.models.ctc import Recogniser, load_recogniser
from audio_lottery.pruning import Mask
from audio_lottery.settings import flat_settings, save_config
from audio_lottery.storage import read_json, sealed_folder, write_json
from audio_lottery.training.loop import Trainer
from audio_lottery.training.processes import finished, make_accelerator
from audio_lottery.training.tracking import StageTracker, tracker_names

logger = logging.getLogger(__name__)

# The dev set among the suites; validate() keeps the name free.
DEV = "dev"

Row = dict[str, Any]
"""One line of the summary: the flat view of a round's metrics.json."""


def search(config: RunConfig, on_round: Callable[[list[Row], Path], None] | None = None) -> list[Row]:
    """A search: train the dense model, then one sparser ticket a round (Frankle & Carbin 2019; Ding et al. 2022).

    With the default method (iterative magnitude pruning) round k keeps the (1 - rate)^k · n largest weights of round
    k-1's model, puts the survivors back to their values in θ, and trains them with a fresh optimiser and schedule.
    `audio_lottery.lottery.masks` and `audio_lottery.lottery.rewind` say what the other methods do.

    Args:
        config: the whole run.
        on_round: called on the main process after every round with the rows so far and the run folder (report).

    Returns:
        One row per round.

    Raises:
        AudioLotteryError: see the classes in `audio_lottery.errors`; nothing half-written is left.
    """
    validate(config)
    check_score(config.pruning)
    tracker_names(config.log_with)  # refuses what is not there before anything is trained
    for training in (config.theta.training, config.training):
        check_parts(training.augment, config.evaluation.suites, Path(config.data.root).expanduser())
    accelerator = make_accelerator(config.precision, config.num_processes)
    folder = RunFolder(Path(config.run_dir))
    if accelerator.is_main_process:
        save_config(config, folder.path)
    accelerator.wait_for_everyone()
    data = load_run_data(config, folder.data, accelerator)
    make_theta(config, folder, data, accelerator)
    if accelerator.is_main_process:
        rehearse(config, folder)
    accelerator.wait_for_everyone()
    rows: list[Row] = []
    for number in range(config.search.rounds + 1):
        rows.append(summary_row(run_round(config, number, folder, data, accelerator)))
        if accelerator.is_main_process:
            remove_models(config, folder, rows)
            if on_round is not None:
                on_round(rows, folder.path)
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return rows


def make_theta(config: RunConfig, folder: RunFolder, data: RunData, accelerator: Accelerator) -> None:
    """Write the rewind point: the model as loaded or drawn, trained first where θ has corpora of its own."""
    path = folder.theta
    if _finished(path, accelerator):
        return
    training = config.theta.training
    recogniser = load_recogniser(config.model, config.seed, training.specaugment if config.theta.train else None)
    report: dict[str, Any] | None = None
    if data.theta_train is not None and data.theta_dev is not None:
        trainer = _trainer(recogniser, config, training, data.theta_train, data.theta_dev, "theta", folder, accelerator)
        report = asdict(trainer.run())
    if accelerator.is_main_process:
        with sealed_folder(path) as temporary:
            recogniser.save(temporary)
            write_json(
                temporary / "metrics.json", {**provenance(config, accelerator), "stage": "theta", "training": report}
            )
        shutil.rmtree(folder.work("theta"), ignore_errors=True)
    accelerator.wait_for_everyone()


def run_round(
    config: RunConfig, number: int, folder: RunFolder, data: RunData, accelerator: Accelerator
) -> dict[str, Any]:
    """One round, or its metrics where it is done already."""
    path = folder.round(number)
    if _finished(path, accelerator):
        return read_json(path / "metrics.json")
    check_sources(config, number, folder)
    stage = path.name
    mask = first_mask(config, number, folder, data.train, accelerator)
    policy = policy_of(config, number, mask, folder)
    recogniser = start_of_round(config, number, mask, folder)
    trainer = _trainer(
        recogniser,
        config,
        training_of(config, number),
        data.train,
        data.dev,
        stage,
        folder,
        accelerator,
        masking=policy,
        movement=list(mask) if gathers_movement(config.pruning, number) else (),
        description=f"round {number} ({100 * policy.target:.1f} %)",
        **_late_rewinding(config, number, folder),
    )
    report = trainer.run()
    mask = trainer.mask or mask
    trained = time.monotonic()
    pruning.apply(mask, recogniser.model)  # pruned weights that training left at -0.0 become +0.0
    dev, results, transcripts = _evaluate(recogniser, config, data, accelerator)
    if number > 0:
        for name, result in {DEV: dev, **results}.items():
            dense = folder.round(0) / "hypotheses" / f"{name}.tsv"
            result["difference_to_dense"] = _difference(transcripts[name], dense, config)
    if accelerator.is_main_process:
        with sealed_folder(path) as temporary:
            recogniser.save(temporary)
            mask.save(temporary / "mask.safetensors")
            if trainer.movement is not None:
                save_file(trainer.movement, temporary / MOVEMENT_FILE)
            for name, lines in transcripts.items():
                lines.write(temporary / "hypotheses" / f"{name}.tsv")
            metrics = {
                **provenance(config, accelerator),
                "stage": stage,
                "round": number,
                **_mask_metrics(mask, recogniser),
                "training": asdict(report),
                "dev": dev,
                "test": results,
                "bytes": (temporary / MODEL_FILE).stat().st_size,
                "bytes_gzip": _gzip_size(temporary / MODEL_FILE),
                "seconds": report.seconds + time.monotonic() - trained,
            }
            write_json(temporary / "metrics.json", metrics)
        shutil.rmtree(folder.work(stage), ignore_errors=True)
    accelerator.wait_for_everyone()
    return read_json(path / "metrics.json")


def _evaluate(
    recogniser: Recogniser, config: RunConfig, data: RunData, accelerator: Accelerator
) -> tuple[dict[str, Any], dict[str, dict[str, Any]], dict[str, Transcripts]]:
    """The kept model on dev, where tickets are chosen, and on every test suite; the transcripts of all of them."""
    root = Path(config.data.root).expanduser()
    decoder = make_decoder(config.evaluation.decoder, recogniser, root)
    results: dict[str, dict[str, Any]] = {}
    transcripts: dict[str, Transcripts] = {}
    sets = [(SuiteConfig(DEV), data.dev), *((suite, data.test) for suite in config.evaluation.suites)]
    for suite, manifest in sets:
        results[suite.name], transcripts[suite.name] = run_suite(
            recogniser,
            manifest,
            suite,
            accelerator,
            config.evaluation,
            normalizer=config.data.normalizer,
            root=root,
            num_workers=config.data.num_workers,
            decoder=decoder,
        )
    return results.pop(DEV), results, transcripts


def _difference(transcripts: Transcripts, dense: Path, config: RunConfig) -> dict[str, Any]:
    """WER minus that of the dense model on the same utterances, with intervals and MAPSSWE."""
    there, normalizer = read_transcripts(dense), config.data.normalizer
    baseline = count_errors(there.ids, there.references, there.hypotheses, normalizer, speakers=there.speakers)
    # As it would be read back: the file holds every run of white space as one space.
    system = count_errors(
        transcripts.ids,
        there.references,
        [" ".join(text.split()) for text in transcripts.hypotheses],
        normalizer,
        speakers=there.speakers,
    )
    return compare(system, baseline, resamples=config.evaluation.bootstrap, seed=config.evaluation.seed).to_dict()


def summary_row(metrics: dict[str, Any]) -> Row:
    """The flat view of a round's metrics; WER as a fraction."""
    suites = {"test_wer" if name == "clean" else f"test_wer_{name}": result for name, result in metrics["test"].items()}
    intervals = {
        f"{end}_{column}": result["wer_interval"][index]
        for column, result in {"dev_wer": metrics["dev"], **suites}.items()
        if result["wer_interval"] is not None  # a set of one utterance has none
        for index, end in enumerate(("low", "high"))
    }
    return {
        "round": metrics["round"],
        "remaining_percent": metrics["remaining_percent"],
        "remaining_percent_all": metrics["remaining_percent_all"],
        "dev_wer": metrics["dev"]["wer"],
        **{column: result["wer"] for column, result in suites.items()},
        "mask_sha256": metrics["mask_sha256"],
        "bytes": metrics["bytes"],
        "bytes_gzip": metrics["bytes_gzip"],
        "seconds": metrics["seconds"],
        **intervals,
    }


def _finished(path: Path, accelerator: Accelerator) -> bool:
    return finished(accelerator, path, remedy=f"remove {path} and the rounds after it to compute them again")


def training_of(config: RunConfig, number: int) -> TrainingConfig:
    """How a round is trained: as ``training`` says, but for fine-tuning and the dense model of equal budget."""
    training = config.training
    if number > 0 and config.pruning.rewind == "none":
        return replace(
            training,
            learning_rate=training.learning_rate * config.pruning.finetune_lr,
            warmup_ratio=0.0,
            decay="constant",
        )
    if config.pruning.control == "dense":
        steps, epochs = training.max_steps, training.epochs
        return replace(
            training,
            max_steps=None if steps is None else steps * (number + 1),
            epochs=None if epochs is None else epochs * (number + 1),
        )
    return training


def _late_rewinding(config: RunConfig, number: int, folder: RunFolder) -> dict[str, Any]:
    if config.pruning.rewind != "step" or config.pruning.rewind_step is None:
        return {}
    point = folder.path / "rewind"
    return {"late": (config.pruning.rewind_step, point)} if number == 0 else {"start": point}


def _trainer(
    recogniser: Recogniser,
    config: RunConfig,
    training: TrainingConfig,
    train: Dataset,
    dev: Dataset,
    stage: str,
    folder: RunFolder,
    accelerator: Accelerator,
    *,
    description: str | None = None,
    **options: Any,
) -> Trainer:
    augment = training.augment
    data = prepare_training(train, recogniser.processor, recogniser.frames, config.data, fastest=max(augment.speeds))
    if data.dropped:
        counts = ", ".join(f"{number} {reason}" for reason, number in data.dropped.items())
        logger.warning("%s: left out of training: %s", stage, counts)
    return Trainer(
        recogniser,
        data,
        dev,
        training,
        accelerator,
        folder=folder.work(stage),
        seed=config.seed,
        normalizer=config.data.normalizer,
        augment=make_augmenter(augment, Path(config.data.root).expanduser(), config.seed, data.manifest),
        num_workers=config.data.num_workers,
        description=description or stage,
        tracker=StageTracker(tracker_names(config.log_with), accelerator, folder.path, stage, flat_settings(config)),
        **options,
    )


def _mask_metrics(mask: Mask, recogniser: Recogniser) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in recogniser.model.parameters())
    kept = mask.kept
    return {
        "mask_sha256": mask.sha256(),
        "prunable": mask.prunable,
        "kept": kept,
        "parameters": parameters,
        "remaining_percent": 100 * kept / mask.prunable,
        "remaining_percent_all": 100 * (parameters - mask.prunable + kept) / parameters,
        "kept_per_tensor": {name: list(counts) for name, counts in mask.per_tensor().items()},
    }


def _gzip_size(path: Path) -> int:
    """Bytes of the file after gzip: what a general-purpose compressor makes of the zeros."""
    compressor = zlib.compressobj(level=6, wbits=31)  # 31: with gzip header and trailer
    size = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            size += len(compressor.compress(block))
    return size + len(compressor.flush())
