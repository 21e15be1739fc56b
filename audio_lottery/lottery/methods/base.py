"""What a way of finding tickets is to the search.

Where a round's mask comes from, what holds it while the round trains, where the round starts, and how long it trains.
Files beside this one are one method each; `audio_lottery.lottery.methods.METHODS` is the registry.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import ClassVar

from safetensors.torch import load_file
from torch import nn

from audio_lottery import pruning
from audio_lottery.config import PruningConfig, TrainingConfig
from audio_lottery.errors import MaskError
from audio_lottery.lottery.rewind import Rewind
from audio_lottery.lottery.run_folder import MASK_FILE, MOVEMENT_FILE, RunFolder
from audio_lottery.models.base import Backbone
from audio_lottery.models.load import family_of, load_folder
from audio_lottery.pruning import SCORES, Mask, Rule, ScoreInputs, ScoreKind, find_scope
from audio_lottery.storage import write_json
from audio_lottery.training.policies import Fixed, MaskPolicy, Prune

InputsSource = Callable[[Backbone, Sequence[str], str], ScoreInputs]
"""(backbone, prunable parameters, what a score needs) → the score_inputs, from some training speech."""


@dataclass(frozen=True)
class Method:
    """One method with its settings: iterative pruning unless a subclass says otherwise.

    Attributes:
        settings: the section ``pruning``.
        seed: of the run; round k draws with seed + k.
        folder: the run; its finished rounds are what later ones are made from.
        rewind: where survivors go on from.
        teacher: `DistillConfig.teacher` of the rounds; None where nothing is taught.
        prunes_in_training: the mask changes while weights move, so that a score may look at the weights only.
        starts_at_theta: every round starts at θ: no other rewinding makes sense.
        trains_before_pruning: a training comes before the pruning, so that scores gathered in it can be used.
    """

    settings: PruningConfig
    seed: int
    folder: RunFolder
    rewind: Rewind
    teacher: str | None = None

    prunes_in_training: ClassVar[bool] = False
    starts_at_theta: ClassVar[bool] = False
    trains_before_pruning: ClassVar[bool] = False

    @classmethod
    def problems(cls, settings: PruningConfig) -> list[str]:
        """What in the settings does not go with this method, one line each."""
        score = SCORES[settings.score]
        checks = [
            (
                not cls.starts_at_theta or settings.rewind == "theta",
                f"pruning.method {settings.method} starts from θ, so pruning.rewind must be theta, "
                f"not {settings.rewind}",
            ),
            (
                not cls.prunes_in_training or score.needs == "weights",
                f"pruning.score {settings.score} needs more than the weights; {settings.method} prunes while weights "
                f"move: use {', '.join(name for name, kind in SCORES.items() if kind.needs == 'weights')}",
            ),
            (
                not settings.equal_budget or cls.starts_at_theta,
                f"pruning.equal_budget: the rounds of {settings.method} cost what the rounds before them cost; it is "
                "for methods whose rounds start at θ: mpi, gmp, parp and parp_p",
            ),
            (
                not settings.equal_budget or settings.dense_steps is None,
                "pruning.equal_budget: every round is a multiple of round 0, so no pruning.dense_steps",
            ),
            (
                score.needs != "movement" or cls.trains_before_pruning or cls.prunes_in_training,
                f"pruning.score {settings.score} is gathered while the round before trains, and pruning.method "
                f"{settings.method} starts every round from θ; use imp or omp, or score magnitude",
            ),
            (
                score.needs != "movement" or settings.dense_steps != 0 or cls.prunes_in_training,
                f"pruning.score {settings.score} is gathered while round 0 trains, and pruning.dense_steps is 0",
            ),
        ]
        return [message for holds, message in checks if not holds]

    @classmethod
    def starts_dense(cls, settings: PruningConfig) -> bool:
        """Whether round 0 is the dense model, as far as the settings tell."""
        return settings.start is None

    # -- how sparse ---------------------------------------------------------------------------------------------------

    def density(self, number: int, start: float = 1.0) -> float:
        """Density that round ``number`` ends with, of the prunable weights.

        Args:
            number: the round; round 0 has the density it starts with.
            start: density of round 0.
        """
        if number == 0:
            return start
        settings = self.settings
        return settings.targets[number - 1] if settings.targets else start * (1 - settings.rate) ** number

    # -- from what ----------------------------------------------------------------------------------------------------

    def source(self, number: int) -> Path:
        """Folder of the model whose weights are scored for round ``number``."""
        return self.folder.theta

    def ranked(self, number: int) -> Path | None:
        """Folder of the model whose weights the first mask of round ``number`` is made from; None: no weights are."""
        return None if number == 0 else self.source(number)

    def among(self, number: int) -> Mask:
        """The mask that round ``number`` is pruned within."""
        return self.start_mask

    def gathers_movement(self, number: int) -> bool:
        """Whether round ``number`` gathers movement scores for the rounds after it."""
        return False

    @property
    def start_mask(self) -> Mask:
        """The mask of round 0: dense, or the one that was given."""
        return Mask.load(self.folder.round(0) / MASK_FILE)

    def mask(self, number: int, score_inputs: InputsSource) -> Mask:
        """The mask that round ``number`` starts with. Main process only.

        Raises:
            MaskError: density, pattern and scope do not go together, or a mask does not fit the model.
        """
        if number == 0:
            return self.dense_or_given(load_folder(self.folder.theta))
        backbone, among = load_folder(self.source(number)), self.among(number)
        density = self.first_density(number)
        found = self._score_inputs(number, backbone, among, score_inputs)
        return self.prune(self.seed + number, found)(backbone.module, density, among)

    def first_density(self, number: int) -> float:
        """Density of the mask that round ``number`` starts with."""
        return self.density(number, self.start_mask.density())

    def policy(self, number: int, mask: Mask) -> MaskPolicy:
        """What becomes of a round's first mask while it trains."""
        return Fixed(mask)

    def rehearse(self, rounds: int) -> None:
        """Make every round's mask on θ by magnitude, so that settings that do not go together fail before any training.

        Raises:
            MaskError: as `mask`.
        """
        backbone = load_folder(self.folder.theta)
        mask = self.dense_or_given(backbone)
        start, prune = mask.density(), partial(self.prune(self.seed, score="magnitude"), backbone.module)
        for number in range(1, rounds + 1):
            mask = self.rehearsed(prune(self.density(number, start), mask), mask)

    def rehearsed(self, made: Mask, among: Mask) -> Mask:
        """What the next rehearsed mask is made within."""
        return among

    # -- how it trains ------------------------------------------------------------------------------------------------

    def start(self, number: int, mask: Mask) -> Backbone:
        """The backbone that round ``number`` starts to train, pruned weights at zero."""
        return self.rewind.start(number, mask, self.source(number))

    def training(self, number: int, training: TrainingConfig) -> TrainingConfig:
        """How round ``number`` is trained."""
        if number == 0 and self.settings.dense_steps is not None:
            training = replace(training, max_steps=self.settings.dense_steps, epochs=None)
        if number > 0 and self.settings.equal_budget:
            training = prolonged(training, number if self.teacher == "dense" else number + 1)
        return self.rewind.training(number, training)

    def check_steps(self, steps: int) -> None:
        """Refuse a length of the pruned rounds that the pruning does not fit into.

        Args:
            steps: optimiser steps of such a round.

        Raises:
            ConfigError: says how many there must be.
        """

    def teacher_folder(self, number: int) -> Path | None:
        """Folder of the model that teaches round ``number``, where it is one of this run."""
        if self.teacher == "theta":
            return self.folder.theta
        return self.folder.round(0) if self.teacher == "dense" and number > 0 else None

    def start_folder(self, number: int) -> Path:
        """Folder of the model that round ``number`` starts from."""
        return self.rewind.folder(number, self.source(number))

    # -- parts --------------------------------------------------------------------------------------------------------

    @property
    def score(self) -> ScoreKind:
        """How weights are ranked."""
        return SCORES[self.settings.score]

    @property
    def exclude(self) -> list[str]:
        """What stays out of the scope: as the settings say, or the output layer of θ's family."""
        if self.settings.exclude is not None:
            return self.settings.exclude
        return list(family_of(self.folder.theta).heads)

    def dense_or_given(self, backbone: Backbone) -> Mask:
        """The mask of round 0: everything prunable, or the mask file that was given."""
        settings = self.settings
        scope = find_scope(backbone.module, settings.include, self.exclude)
        write_json(self.folder.path / "scope.json", {"prunable": scope.names, "left_out": scope.left_out})
        dense = Mask.dense(backbone.module, scope.names)
        if settings.start is None:
            return dense
        given = Mask.load(Path(settings.start).expanduser())
        given.check_fits(backbone.module)
        if list(given) != list(dense):
            strangers = sorted(set(given) ^ set(dense))
            raise MaskError(
                f"{settings.start} has another scope than pruning.include and exclude: {', '.join(strangers[:5])}"
            )
        return given

    def prune(self, seed: int, score_inputs: ScoreInputs | None = None, score: str | None = None) -> Prune:
        """Score, pattern and allocation of the settings over their scope: (model, density, among) → mask."""
        settings = self.settings
        rules = [Rule(rule.match, rule.dense, rule.floor) for rule in settings.rules]

        def prune(model: nn.Module, density: float, among: Mask | None) -> Mask:
            return pruning.prune(
                model,
                density,
                score=score or settings.score,
                pattern=settings.pattern,
                allocation=settings.allocation,
                among=find_scope(model, settings.include, self.exclude) if among is None else among,
                rules=rules,
                score_inputs=replace(score_inputs or ScoreInputs(), seed=seed),
            )

        return prune

    def _score_inputs(self, number: int, backbone: Backbone, among: Mask, gather: InputsSource) -> ScoreInputs:
        needs = self.score.needs
        if needs == "weights":
            return ScoreInputs(seed=self.seed + number)
        if needs == "movement":
            return ScoreInputs(movement=load_file(self.source(number) / MOVEMENT_FILE))
        return gather(backbone, list(among), needs)


def prolonged(training: TrainingConfig, times: int) -> TrainingConfig:
    """The same training, ``times`` as long."""
    steps, epochs = training.max_steps, training.epochs
    return replace(
        training,
        max_steps=None if steps is None else steps * times,
        epochs=None if epochs is None else epochs * times,
    )
