"""One round of a search, and the rewind point before the first."""

import shutil
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import save_file

from audio_lottery import pruning
from audio_lottery.config import SuiteConfig, TrainingConfig
from audio_lottery.evaluation.compare import compare
from audio_lottery.evaluation.counts import count_errors
from audio_lottery.evaluation.evaluator import make_evaluator
from audio_lottery.evaluation.runtime import on_runtime
from audio_lottery.evaluation.transcripts import Transcripts, read_transcripts
from audio_lottery.lottery.budget import own_budget, total_budget
from audio_lottery.lottery.keep import check_sources
from audio_lottery.lottery.provenance import provenance
from audio_lottery.lottery.reconstruct import reconstructs, take_reconstructed, write_reconstructed
from audio_lottery.lottery.run import Run
from audio_lottery.lottery.run_folder import MASK_FILE, MODEL_FILE, MOVEMENT_FILE
from audio_lottery.lottery.teachers import check_teacher, teacher_of
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import load_backbone
from audio_lottery.processes import finished, require_same
from audio_lottery.pruning import Mask
from audio_lottery.settings import flat_settings
from audio_lottery.storage import read_json, sealed_folder, write_json
from audio_lottery.training.hook import Hook
from audio_lottery.training.hooks import GatherMovement, KeepMask, Track
from audio_lottery.training.loop import Trainer, TrainingReport
from audio_lottery.training.state import Stage
from audio_lottery.training.teacher import Teacher
from audio_lottery.training.tracking import StageTracker, tracker_names

DEV = "dev"
"""The dev set among the suites; validate() keeps the name free."""


def make_theta(run: Run) -> None:
    """Write the rewind point: the model as loaded or drawn, trained first where θ has corpora of its own."""
    path, config = run.folder.theta, run.config
    if stage_finished(path, run.accelerator):
        return
    train, dev = run.data.theta_train, run.data.theta_dev
    trains = train is not None and dev is not None
    specaugment = config.theta.training.specaugment if trains else None
    # every round trains the output layer, so it may be new
    backbone = load_backbone(config.model, config.seed, new_head=True, specaugment=specaugment)
    report: TrainingReport | None = None
    if trains:
        check_teacher(run, backbone, config.theta.training, train)
        check_teacher(run, backbone, config.training, run.data.train)
        teacher = teacher_of(run, backbone, None, config.theta.training, train)
        stage = Stage("theta", run.folder.work("theta"), config.seed, "theta")
        report = _train(run, backbone, config.theta.training, (train, dev), stage, teacher=teacher)
    if run.accelerator.is_main_process:
        with sealed_folder(path) as temporary:
            backbone.save(temporary)
            metrics = {
                **provenance(config, run.accelerator),
                "stage": "theta",
                "training": None if report is None else asdict(report),
                "budget": None if report is None else own_budget(asdict(report)),
            }
            write_json(temporary / "metrics.json", metrics)
        shutil.rmtree(run.folder.work("theta"), ignore_errors=True)
    run.accelerator.wait_for_everyone()


def run_round(run: Run, number: int) -> dict[str, Any]:
    """One round: mask, rewind, train, evaluate; or its metrics where it is done already."""
    path, accelerator, method = run.folder.round(number), run.accelerator, run.method
    if stage_finished(path, accelerator):
        return read_json(path / "metrics.json")
    check_sources(method, number)
    mask = _first_mask(run, number)
    policy = method.policy(number, mask)
    keeper = KeepMask(policy)
    movement = GatherMovement(list(mask)) if _gathers_movement(run, number) else None
    hooks: list[Hook] = [*method.rewind.hooks(number, run.folder), keeper, *([movement] if movement else [])]
    backbone = method.start(number, mask)
    if reconstructs(run, number):
        take_reconstructed(run, number, backbone)
    training = method.training(number, run.config.training)
    description = f"round {number} ({100 * policy.target:.1f} %)"
    stage = Stage(path.name, run.folder.work(path.name), run.config.seed, description)
    teacher = teacher_of(run, backbone, number, training, run.data.train)
    report = _train(run, backbone, training, (run.data.train, run.data.dev), stage, hooks, teacher)
    mask = keeper.best or mask
    trained = time.monotonic()
    pruning.apply(mask, backbone.module)  # pruned weights that training left at -0.0 become +0.0
    results, transcripts = _evaluate(run, backbone, number)
    if accelerator.is_main_process:
        with sealed_folder(path) as temporary:
            backbone.save(temporary)
            mask.save(temporary / MASK_FILE)
            if movement is not None and movement.best is not None:
                save_file(movement.best, temporary / MOVEMENT_FILE)
            for name, lines in transcripts.items():
                lines.write(temporary / "hypotheses" / f"{name}.tsv")
            metrics = {
                **provenance(run.config, accelerator),
                "stage": path.name,
                "round": number,
                **_mask_metrics(mask, backbone),
                "training": asdict(report),
                "budget": total_budget(method, number, asdict(report)),
                "dev": results.pop(DEV),
                "test": results,
                "bytes": (temporary / MODEL_FILE).stat().st_size,
                "bytes_gzip": _gzip_size(temporary / MODEL_FILE),
                "seconds": report.seconds + time.monotonic() - trained,
            }
            write_json(temporary / "metrics.json", metrics)
        shutil.rmtree(run.folder.work(path.name), ignore_errors=True)
    accelerator.wait_for_everyone()
    return read_json(path / "metrics.json")


def stage_finished(path: Path, accelerator: Accelerator) -> bool:
    """Whether the sealed folder of a stage is there and whole, the same answer on every process."""
    return finished(accelerator, path, remedy=f"remove {path} and the rounds after it to compute them again")


def _first_mask(run: Run, number: int) -> Mask:
    """The mask that a round starts with: made on the main process, read from its file by all, compared by hash."""
    path = run.folder.work(run.folder.round(number).name) / MASK_FILE
    if run.accelerator.is_main_process:
        made = run.method.mask(number, run.score_inputs)
        made.save(path)
        if reconstructs(run, number):
            write_reconstructed(run, number, made)
    run.accelerator.wait_for_everyone()
    mask = Mask.load(path)
    require_same(run.accelerator, mask.sha256(), f"the mask of round {number}")
    return mask


def _gathers_movement(run: Run, number: int) -> bool:
    return run.method.score.needs == "movement" and run.method.gathers_movement(number)


def _train(
    run: Run,
    backbone: Backbone,
    training: TrainingConfig,
    sets: tuple[Any, Any],
    stage: Stage,
    hooks: Sequence[Hook] = (),
    teacher: Teacher | None = None,
) -> TrainingReport:
    train, dev = sets
    speech = run.speech(train, backbone, training, teacher)

    def evaluate(model: Backbone) -> dict[str, Any]:
        return run.evaluator.score(model, dev, training.max_batch_seconds)

    names, settings = tracker_names(run.config.log_with), flat_settings(run.config)
    track = Track(StageTracker(names, run.accelerator, run.folder.path, stage.name, settings))
    return Trainer(backbone, speech, evaluate, training, run.accelerator, stage, [*hooks, track]).run()


def _evaluate(run: Run, backbone: Backbone, number: int) -> tuple[dict[str, dict[str, Any]], dict[str, Transcripts]]:
    """The kept model on dev, where tickets are chosen, and on every test suite; the transcripts of all of them."""
    backbone = on_runtime(backbone, run.config.evaluation)
    evaluator = make_evaluator(run.config, run.accelerator, backbone)
    results: dict[str, dict[str, Any]] = {}
    transcripts: dict[str, Transcripts] = {}
    sets = [(SuiteConfig(DEV), run.data.dev), *((suite, run.data.test) for suite in run.config.evaluation.suites)]
    for suite, manifest in sets:
        results[suite.name], transcripts[suite.name] = evaluator.run(backbone, manifest, suite)
        if number > 0:
            dense = run.folder.round(0) / "hypotheses" / f"{suite.name}.tsv"
            results[suite.name]["difference_to_dense"] = _difference(run, transcripts[suite.name], dense)
    return results, transcripts


def _difference(run: Run, transcripts: Transcripts, dense: Path) -> dict[str, Any]:
    """WER minus that of the dense model on the same utterances, with intervals and MAPSSWE."""
    there, normalizer, settings = read_transcripts(dense), run.config.wer_normalizer, run.config.evaluation
    baseline = count_errors(there.ids, there.references, there.hypotheses, normalizer, speakers=there.speakers)
    # As it would be read back: the file holds every run of white space as one space.
    system = count_errors(
        transcripts.ids,
        there.references,
        [" ".join(text.split()) for text in transcripts.hypotheses],
        normalizer,
        speakers=there.speakers,
    )
    return compare(system, baseline, resamples=settings.bootstrap, seed=settings.seed).to_dict()


def _mask_metrics(mask: Mask, backbone: Backbone) -> dict[str, Any]:
    parameters = sum(parameter.numel() for parameter in backbone.module.parameters())
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
