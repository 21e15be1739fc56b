"""The search for winning tickets: train, prune, rewind, evaluate, round by round.

Every stage starts with "if my result exists and is whole, return it", so running the same command again continues a run
that was stopped, at the last checkpoint of the stage that was interrupted.
"""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from audio_lottery.config import RunConfig, validate
from audio_lottery.data.noise import check_parts, check_recordings
from audio_lottery.evaluation.evaluator import make_evaluator
from audio_lottery.lottery.data import load_run_data
from audio_lottery.lottery.keep import remove_models
from audio_lottery.lottery.methods import check_method, make_method
from audio_lottery.lottery.round import make_theta, run_round
from audio_lottery.lottery.run import Run
from audio_lottery.lottery.run_folder import RoundRow, RunFolder
from audio_lottery.lottery.teachers import check_teacher
from audio_lottery.models.load import load_folder
from audio_lottery.processes import finish_trackers, make_accelerator
from audio_lottery.settings import save_config
from audio_lottery.storage import file_lock, is_sealed
from audio_lottery.training.tracking import tracker_names


def search(config: RunConfig, on_round: Callable[[list[RoundRow], Path], None] | None = None) -> list[RoundRow]:
    """A search: train the dense model, then one sparser ticket a round (Frankle & Carbin 2019; Ding et al. 2022).

    With the default method (iterative magnitude pruning) round k keeps the (1 - rate)^k · n largest weights of round
    k-1's model, puts the survivors back to their values in θ, and trains them with a fresh optimiser and schedule.
    `audio_lottery.lottery.methods` and `audio_lottery.lottery.rewind` say what the other methods do.

    Args:
        config: the whole run.
        on_round: called on the main process after every round with the rows so far and the run folder (report).

    Returns:
        One row per round; none with ``search.theta_only``.

    Raises:
        AudioLotteryError: see the classes in `audio_lottery.errors`; nothing half-written is left.
    """
    with ExitStack() as held:
        return _search(prepare_run(config, held), on_round)


def _search(run: Run, on_round: Callable[[list[RoundRow], Path], None] | None) -> list[RoundRow]:
    config = run.config
    make_theta(run)
    if config.search.theta_only:
        finish_trackers(run.accelerator)
        return []
    if run.accelerator.is_main_process and not is_sealed(run.folder.round(0)):
        _rehearse(run)
    run.accelerator.wait_for_everyone()
    rows: list[RoundRow] = []
    for number in range(config.search.rounds + 1):
        rows.append(summary_row(run_round(run, number)))
        if run.accelerator.is_main_process:
            remove_models(config, run.method, rows)
            if on_round is not None:
                on_round(rows, run.folder.path)
    run.accelerator.wait_for_everyone()
    finish_trackers(run.accelerator)
    return rows


def _rehearse(run: Run) -> None:
    """What can be refused on θ, before any round trains: masks, the length of the rounds, the teacher.

    Raises:
        ConfigError: a training that its pruning does not fit into, or a teacher that does not fit.
        MaskError: density, pattern and scope do not go together.
        ModelError: the teacher cannot be loaded.
    """
    training, rounds = run.config.training, run.config.search.rounds
    run.method.rehearse(rounds)
    theta = load_folder(run.folder.theta)
    if rounds > 0:
        last = run.method.training(rounds, training)
        run.method.check_steps(run.speech(run.data.train, theta, last).steps(last))
    check_teacher(run, theta, training, run.data.train, run.folder.theta)


def prepare_run(config: RunConfig, held: ExitStack) -> Run:
    """Check the settings, open the run folder, read the corpora.

    Args:
        config: of the run.
        held: gets what keeps other searches out of the folder, until it is closed.

    Raises:
        ConfigError: settings that do not go together.
        RunError: the folder belongs to another run, or another search works in it.
        CorpusError: a corpus is missing or damaged.
    """
    validate(config)
    check_method(config)
    tracker_names(config.log_with)  # refuses what is not there before anything is trained
    root, augments = Path(config.data.root).expanduser(), (config.theta.training.augment, config.training.augment)
    for augment in augments:
        check_parts(augment, config.evaluation.suites, root)
    check_recordings(augments, config.evaluation.suites, root)
    folder = RunFolder(Path(config.run_dir))
    accelerator = make_accelerator(config.precision, config.num_processes)
    if accelerator.is_main_process:
        save_config(config, folder.path)
        busy = f"{folder.path}: another search works in this folder; wait for it, or stop it"
        held.enter_context(file_lock(folder.lock, busy))
    accelerator.wait_for_everyone()
    data = load_run_data(config, folder.data, accelerator)
    return Run(config, folder, data, accelerator, make_method(config, folder), make_evaluator(config, accelerator))


def summary_row(metrics: dict[str, Any]) -> RoundRow:
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
        **(metrics.get("budget") or {}),
        "bytes": metrics["bytes"],
        "bytes_gzip": metrics["bytes_gzip"],
        "seconds": metrics["seconds"],
        **intervals,
    }
