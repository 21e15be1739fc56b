"""Run folders as the page needs them: finished rounds, settings, and which tickets win."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audio_lottery.errors import ConfigError, RunError, TextError
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.lottery.select import Selection, select
from audio_lottery.storage import is_sealed, read_json

BENCH_FILE = "bench.json"
"""Times of a run's tickets, where ``audio-lottery bench --json RUN/bench.json`` wrote them."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One run folder.

    Attributes:
        folder: its paths.
        config: ``config.yaml`` as it stands.
        theta: metrics of the rewind point; None where it was not trained.
        rounds: ``metrics.json`` by round, only of rounds that are finished.
        bench: rows of `BENCH_FILE`; empty where nothing was measured.
    """

    folder: RunFolder
    config: str
    theta: Mapping[str, Any] | None
    rounds: Mapping[int, Mapping[str, Any]]
    bench: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class RunGroup:
    """One curve of the page: a run, or several seeds of one configuration.

    Attributes:
        name: as the page calls it.
        runs: one per seed; what cannot be averaged (transcripts, layers, training) is shown of the first.
        selection: the tickets chosen on dev; None where they could not be.
        note: why there is no selection.
    """

    name: str
    runs: tuple[RunView, ...]
    selection: Selection | None
    note: str

    @property
    def first(self) -> RunView:
        """The run whose transcripts, layers and training are shown."""
        return self.runs[0]

    @property
    def numbers(self) -> list[int]:
        """Rounds that every run has finished."""
        return sorted(set.intersection(*(set(run.rounds) for run in self.runs)))

    @property
    def suites(self) -> list[str]:
        """Test suites in the order of the run, the one that is reported first."""
        return list(self.first.rounds[0]["test"])

    def marks(self, number: int) -> list[str]:
        """What a round is called: ``dense``, ``winning``, ``best``, ``extreme``."""
        if number == 0:
            return ["dense"]
        chosen = self.selection
        if chosen is None:
            return []
        named = {"best": chosen.best, "extreme": chosen.extreme}
        marks = ["winning"] if any(ticket.round == number for ticket in chosen.winning) else []
        return marks + [name for name, ticket in named.items() if ticket is not None and ticket.round == number]

    @property
    def shown_ticket(self) -> int | None:
        """The round that is read beside the dense model: extreme, else best, else the last; None: no ticket."""
        if self.selection is not None:
            for ticket in (self.selection.extreme, self.selection.best):
                if ticket is not None:
                    return ticket.round
        return self.numbers[-1] if self.numbers[-1] > 0 else None


def read_group(name: str, folders: Sequence[Path]) -> RunGroup:
    """Read the runs behind one curve.

    Args:
        name: as the page calls it.
        folders: run folders; several are seeds of one configuration.

    Raises:
        ConfigError: no folder.
        RunError: a folder is not a run, has not finished its dense round, or is no seed of the same configuration.
        TextError: a transcript file of one of several seeds is damaged; of a single run the page says so.
    """
    if not folders:
        raise ConfigError(f"the curve '{name}' has no run folder")
    runs = tuple(_read_run(Path(folder)) for folder in folders)
    selection, note = None, ""
    if any(len(run.rounds) < 2 for run in runs):
        note = "no ticket has been trained yet"
    else:
        try:
            selection = select([run.folder.path for run in runs], suite=next(iter(runs[0].rounds[0]["test"])))
        except (RunError, TextError) as error:
            if len(runs) > 1:  # averaging over runs that do not belong together would be a wrong number
                raise
            note = str(error)
    return RunGroup(name, runs, selection, note)


def _read_run(path: Path) -> RunView:
    folder = RunFolder(path)
    try:
        config = (path / "config.yaml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise RunError(f"{path} is not a run folder: its config.yaml cannot be read ({reason})") from error
    found = sorted(
        (int(match.group(1)), entry)
        for entry in path.glob("round_*")
        if (match := re.fullmatch(r"round_(\d+)", entry.name)) and is_sealed(entry)
    )
    rounds = {number: read_json(entry / "metrics.json") for number, entry in found}
    if 0 not in rounds:
        raise RunError(f"{path} has no finished {folder.round(0).name} yet; the page needs the dense model")
    theta = read_json(folder.theta / "metrics.json") if is_sealed(folder.theta) else None
    bench = read_json(path / BENCH_FILE) if (path / BENCH_FILE).is_file() else []
    return RunView(folder, config, theta, rounds, bench)
