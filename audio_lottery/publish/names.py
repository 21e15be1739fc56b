"""Files of a published ticket, and what a round is called."""

import re
from dataclasses import dataclass
from pathlib import Path

from audio_lottery.errors import ConfigError, RunError
from audio_lottery.report.page import RunGroup, read_group

TICKET_FILE = "ticket.json"
"""Where the ticket comes from, and the hashes of its mask and weights."""

SETTINGS_FILE = "search.yaml"
"""The settings of the search, without the places of the machine it ran on."""

CARD_FILE = "README.md"
"""The model card."""

CURVE_FILE = "curve.png"
"""The picture in the card."""

MAIN = "main"
"""The branch that is loaded where none is named."""

CHOICES = ("best", "extreme", "winning")
"""Words for a round: lowest dev WER; sparsest that matches the dense model; lowest dev WER of those that match."""


@dataclass(frozen=True)
class Chosen:
    """A round to publish.

    Attributes:
        group: the run, read.
        number: of the round.
    """

    group: RunGroup
    number: int

    @property
    def folder(self) -> Path:
        """The round's folder."""
        return self.group.first.folder.round(self.number)

    @property
    def marks(self) -> list[str]:
        """What it is called: dense, winning, best, extreme."""
        return self.group.marks(self.number)


@dataclass(frozen=True)
class Target:
    """Where a ticket goes, and what is there.

    Attributes:
        repo: user/name.
        branch: of the repository.
        licence: as the Hub spells it; None takes what the corpora allow.
        old_card: the card that the branch has; empty where there is none.
    """

    repo: str
    branch: str = MAIN
    licence: str | None = None
    old_card: str = ""


def check_branch(branch: str) -> None:
    """Raises:
    ConfigError: ``branch`` cannot be the name of one.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", branch):
        raise ConfigError(f"--branch {branch}: letters, digits, '.', '_' and '-' only, the first a letter or digit")


def choose_round(run_dir: Path, word: str) -> Chosen:
    """The round that a word or number means.

    Args:
        run_dir: run folder.
        word: one of `CHOICES`, or the number of a finished round.

    Raises:
        ConfigError: neither.
        RunError: not a run, no such round, or no ticket of that name.
    """
    if word not in CHOICES and not re.fullmatch(r"\d{1,4}", word):
        raise ConfigError(f"--round {word}: it is one of {', '.join(CHOICES)}, or the number of a round")
    group = read_group(run_dir.resolve().name, [run_dir])
    if word not in CHOICES:
        if int(word) not in group.numbers:
            finished = ", ".join(map(str, group.numbers))
            raise RunError(f"{run_dir} has no finished round {int(word)}; finished are {finished}")
        return Chosen(group, int(word))
    selection = group.selection
    if selection is None:
        raise RunError(f"{run_dir}: no ticket can be called {word}: {group.note}; name a round by its number")
    ticket = {"best": selection.best, "extreme": selection.extreme, "winning": selection.best_winning}[word]
    if ticket is None:
        raise RunError(
            f"{run_dir} has no {word} ticket: none matches the dense model on dev (`audio-lottery select {run_dir}` "
            "says why); --round best, or the number of a round, publishes one that does not match, and its card says so"
        )
    return Chosen(group, ticket.round)
