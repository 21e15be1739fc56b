"""What a search prepares once: folder, manifests, method, evaluator, and the training sets as they are trained on."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from accelerate import Accelerator
from datasets import Dataset

from audio_lottery.config import AugmentConfig, RunConfig, TrainingConfig
from audio_lottery.data.filters import TrainingData
from audio_lottery.data.noise import make_augmenter
from audio_lottery.evaluation.evaluator import Evaluator
from audio_lottery.lottery.data import RunData
from audio_lottery.lottery.methods import Method
from audio_lottery.lottery.run_folder import RunFolder
from audio_lottery.models.base import Backbone
from audio_lottery.pruning import ScoreInputs
from audio_lottery.training.calibration import calibrate
from audio_lottery.training.speech import TrainingSpeech, filter_training
from audio_lottery.training.teacher import Teacher

logger = logging.getLogger(__name__)


@dataclass
class Run:
    """One search: its settings as the objects that act on them.

    Attributes:
        config: the whole run.
        folder: where everything of it lies.
        data: its manifests.
        accelerator: device, precision and processes.
        method: how tickets are found.
        evaluator: how models are measured; the first round that is evaluated gives it its decoder.
    """

    config: RunConfig
    folder: RunFolder
    data: RunData
    accelerator: Accelerator
    method: Method
    evaluator: Evaluator
    _prepared: dict[int, TrainingData] = field(default_factory=dict)

    def training_data(self, manifest: Dataset, backbone: Backbone, augment: AugmentConfig) -> TrainingData:
        """What of a manifest is trained on; filtered once, since every round has the same vocabulary and frames."""
        if id(manifest) not in self._prepared:
            data = filter_training(manifest, backbone, self.config.data, augment)
            if data.dropped:
                counts = ", ".join(f"{number} {reason}" for reason, number in data.dropped.items())
                logger.warning("left out of training: %s", counts)
            self._prepared[id(manifest)] = data
        return self._prepared[id(manifest)]

    def speech(
        self, manifest: Dataset, backbone: Backbone, training: TrainingConfig, teacher: Teacher | None = None
    ) -> TrainingSpeech:
        """The batches that a training on ``manifest`` hears, and its teacher with it."""
        augment, seed = training.augment, self.config.seed
        data = self.training_data(manifest, backbone, augment)
        return TrainingSpeech(
            data,
            backbone,
            training,
            seed,
            self.accelerator,
            augment=make_augmenter(augment, self.evaluator.root, seed, data.manifest),
            num_workers=self.config.data.num_workers,
            teacher=teacher,
        )

    def score_inputs(self, backbone: Backbone, names: Sequence[str], needs: str) -> ScoreInputs:
        """What `ScoreInputs` has of name ``needs``, over some training utterances: activations, saliency or grams."""
        training = self.config.training
        data = self.training_data(self.data.train, backbone, training.augment)
        calibration = self.config.pruning.calibration
        return calibrate(backbone, data, names, [needs], calibration, training.max_batch_seconds)
