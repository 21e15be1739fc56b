"""Curves as tables, pictures and the page need them: finished rounds of one or several seeds, and which tickets win."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from audio_lottery.errors import ConfigError, RunError, TextError
from audio_lottery.lottery.select import SearchedRun, Selection, choose, read_run


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
    runs: tuple[SearchedRun, ...]
    selection: Selection | None
    note: str

    @property
    def first(self) -> SearchedRun:
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
    """Read the runs behind one curve: `make_group` of run folders.

    Raises:
        RunError: a folder is not a run; and what `make_group` raises.
    """
    return make_group(name, [read_run(Path(folder)) for folder in folders])


def make_group(name: str, runs: Sequence[SearchedRun]) -> RunGroup:
    """One curve of the runs behind it, with the tickets that win.

    Args:
        name: as the page calls it.
        runs: several are seeds of one configuration.

    Raises:
        ConfigError: no run.
        RunError: a run has not finished its dense round, or is no seed of the same configuration.
        TextError: a transcript file of one of several seeds is damaged; of a single run the page says so.
    """
    if not runs:
        raise ConfigError(f"the curve '{name}' has no run folder")
    for run in runs:
        if 0 not in run.rounds:
            dense = run.folder.round(0).name
            raise RunError(f"{run.folder.path} has no finished {dense} yet; the page needs the dense model")
    selection, note = None, ""
    if any(len(run.rounds) < 2 for run in runs):
        note = "no ticket has been trained yet"
    else:
        try:
            selection = choose(runs, suite=next(iter(runs[0].rounds[0]["test"])))
        except (RunError, TextError) as error:
            if len(runs) > 1:  # averaging over runs that do not belong together would be a wrong number
                raise
            note = str(error)
    return RunGroup(name, tuple(runs), selection, note)
