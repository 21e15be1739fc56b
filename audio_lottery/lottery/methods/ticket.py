"""Masks of another run: transfer of a ticket, and its random controls."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import count, takewhile
from pathlib import Path

from audio_lottery import pruning
from audio_lottery.config import PruningConfig
from audio_lottery.errors import RunError
from audio_lottery.lottery.methods.base import InputsSource, Method
from audio_lottery.lottery.run_folder import MASK_FILE, RunFolder
from audio_lottery.models.load import load_folder
from audio_lottery.pruning import Mask
from audio_lottery.storage import is_sealed, read_json, write_json

Control = Callable[[Mask, int, str, Mask], Mask]
"""(ticket's mask, seed, pattern, mask of the round before) → the mask of the control."""

NEAR = 0.02
"""A round has the density of a target if it differs by no more than this share of the target: patterns round."""

CONTROLS: dict[str, Control] = {
    "none": lambda mask, seed, pattern, previous: mask,
    "random_layers": lambda mask, seed, pattern, previous: pruning.random_like(mask, seed, pattern, previous),
    "random_uniform": lambda mask, seed, pattern, previous: pruning.random_uniform(mask, seed),
    "shuffled": lambda mask, seed, pattern, previous: pruning.shuffled(mask, seed),
}


@dataclass(frozen=True)
class Ticket(Method):
    """Round k has the mask of a round of ``pruning.ticket``, or a random one like it.

    Of its round k, or where there are ``pruning.targets``, of the round with that density.
    """

    trains_before_pruning = True

    @classmethod
    def problems(cls, settings: PruningConfig) -> list[str]:
        """The masks are given: no method makes them."""
        if settings.method == "imp":
            return super().problems(settings)
        return ["pruning.ticket brings its masks: pruning.method must be imp"]

    @classmethod
    def starts_dense(cls, settings: PruningConfig) -> bool:
        """As the other run says, where its round 0 is there already."""
        path = RunFolder(Path(str(settings.ticket)).expanduser()).round(0)
        given = Mask.load(path / MASK_FILE) if is_sealed(path) else None
        return super().starts_dense(settings) and (given is None or given.kept == given.prunable)

    def source(self, number: int) -> Path:
        """The round before, for learning-rate rewinding."""
        return self.folder.round(number - 1)

    def ranked(self, number: int) -> Path | None:
        """None: masks are another run's."""
        return None

    def mask(self, number: int, score_inputs: InputsSource) -> Mask:
        """The mask of the other run's round, or its control.

        Raises:
            RunError: that run lacks the round.
        """
        mask = Mask.load(self._theirs(number) / MASK_FILE)
        mask.check_fits(load_folder(self.folder.theta).module)
        scope = {"prunable": list(mask), "left_out": {}, "ticket": str(self.settings.ticket)}
        write_json(self.folder.path / "scope.json", scope)
        if number == 0:
            return mask
        previous = Mask.load(self.folder.round(number - 1) / MASK_FILE)
        control = CONTROLS[self.settings.control]
        return control(mask, self.seed + 1000 * number, self.settings.pattern, previous)

    def rehearse(self, rounds: int) -> None:
        """Find every round's mask in the other run.

        Raises:
            RunError: as `mask`.
        """
        for number in range(rounds + 1):
            self._theirs(number)

    def _theirs(self, number: int) -> Path:
        other = RunFolder(Path(str(self.settings.ticket)).expanduser())
        targets = self.settings.targets
        if number > 0 and targets:
            return self._of_density(other, targets[number - 1])
        path = other.round(number)
        if not is_sealed(path):
            raise RunError(
                f"pruning.ticket: {path} is not there or not finished; name a run with {number} rounds or more"
            )
        return path

    @staticmethod
    def _of_density(other: RunFolder, target: float) -> Path:
        density = {}
        for path in takewhile(is_sealed, (other.round(number) for number in count())):
            metrics = read_json(path / "metrics.json")
            density[path] = metrics["kept"] / metrics["prunable"]
        nearest = min(density, key=lambda path: abs(density[path] - target), default=None)
        if nearest is None or abs(density[nearest] - target) > NEAR * target:
            densities = ", ".join(f"{value:.4f}" for value in density.values()) or "none"
            raise RunError(
                f"pruning.targets: no finished round of pruning.ticket {other.path} has density {target}; its rounds "
                f"have {densities}"
            )
        return nearest
