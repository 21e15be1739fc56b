"""Which models of a search stay on disk, as ``search.keep`` says: 20 rounds of wav2vec2-base are 8 GB.

What a later round is made from always stays; as ``search.rounds`` may grow, there is always a later round. Only files
of finished rounds are removed, after the round that makes them needless is whole, and the seals say so.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from audio_lottery.config import RunConfig, SearchConfig
from audio_lottery.errors import RunError
from audio_lottery.lottery.methods import Method
from audio_lottery.lottery.run_folder import MODEL_FILE, MOVEMENT_FILE, RoundRow
from audio_lottery.storage import removal_reason, remove_sealed

logger = logging.getLogger(__name__)


def files_needed(method: Method, number: int) -> set[Path]:
    """The files of other rounds that round ``number`` is made from."""
    made_from, teacher = method.ranked(number), method.teacher_folder(number)
    needed = {method.start_folder(number) / MODEL_FILE}
    if teacher is not None:
        needed.add(teacher / MODEL_FILE)
    if made_from is not None:
        needed.add(made_from / MODEL_FILE)
        if method.score.needs == "movement":
            needed.add(made_from / MOVEMENT_FILE)
    return {path for path in needed if path.parent != method.folder.theta}


def files_kept(search: SearchConfig, number: int, best: int | None, method: Method) -> set[Path]:
    """The large files of rounds that stay once round ``number`` is finished.

    Args:
        search: how far the search goes, and what it keeps.
        number: the latest finished round.
        best: the pruned round with the best model on dev so far.
        method: what rounds are made from.
    """
    folder = method.folder
    rounds = [folder.round(k) for k in range(number + 1)]
    if search.keep == "all":
        return {path / name for path in rounds for name in (MODEL_FILE, MOVEMENT_FILE)}
    kept = {folder.round(k) / MODEL_FILE for k in (0, best) if k is not None} if search.keep == "best" else set()
    for later in range(number + 1, max(search.rounds, number + 1) + 1):
        kept |= files_needed(method, later)
    return {path for path in kept if path.parent in rounds}


def best_round(rows: Sequence[RoundRow]) -> int | None:
    """The pruned round with the lowest dev WER, of equals the sparser, as `audio_lottery.lottery.select` chooses it."""
    pruned = [row for row in rows if row["round"] > 0]
    best = min(pruned, key=lambda row: (row["dev_wer"], row["remaining_percent"]), default=None)
    return None if best is None else int(best["round"])


def remove_models(config: RunConfig, method: Method, rows: Sequence[RoundRow]) -> None:
    """Remove the models that ``search.keep`` does not keep. Main process only.

    Args:
        config: the run.
        method: what rounds are made from.
        rows: of the finished rounds, round 0 first.

    Raises:
        StorageError: a file cannot be removed; every round is whole.
    """
    kept = files_kept(config.search, len(rows) - 1, best_round(rows), method)
    for row in rows:
        path = method.folder.round(row["round"])
        names = [name for name in (MODEL_FILE, MOVEMENT_FILE) if path / name not in kept]
        present = [name for name in names if (path / name).is_file()]
        if present:
            remove_sealed(path, present, _reason(config.search.keep))
            logger.info("%s: %s removed (search.keep %s)", path.name, " and ".join(present), config.search.keep)


def check_sources(method: Method, number: int) -> None:
    """Refuse to make a round whose sources were removed.

    Raises:
        RunError: names the file and the rounds to compute again.
    """
    missing, folder = _removed(method, number), method.folder
    if not missing:
        return
    first = number - 1
    while first > 0 and _removed(method, first):
        first -= 1
    again = folder.round(first).name if first == number - 1 else f"{folder.round(first).name} to {number - 1:02d}"
    raise RunError(
        f"{folder.round(number).name} is made from {missing[0]}, which was not kept (search.keep); remove {again} from "
        f"{folder.path} and run the command again: the same models are made again"
    )


def _removed(method: Method, number: int) -> list[Path]:
    needed = sorted(files_needed(method, number))
    return [path for path in needed if removal_reason(path.parent, path.name) is not None]


def _reason(keep: str) -> str:
    again = "the same settings with another run_dir and search.keep all make it again"
    return f"it was not kept (search.keep {keep}); {again}"
