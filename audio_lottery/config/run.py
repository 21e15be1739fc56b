"""Everything a search needs, in one dataclass."""

from dataclasses import dataclass, field
from typing import Literal

from audio_lottery.config.learning import ModelConfig, PruningConfig, SearchConfig, ThetaConfig, TrainingConfig
from audio_lottery.config.speech import DataConfig, EvaluationConfig


@dataclass
class RunConfig:
    """Everything a search needs.

    Args:
        run_dir: folder of the run; running the same command again continues it.
        seed: seed of initialisation, data order, dropout and augmentation.
        precision: of training: no (float32), bf16 or fp16 autocast, or auto (bf16 where the device computes in it, else
            float32; metrics.json says which). The loss and every evaluation are float32.
        num_processes: processes the run expects; a launch with another number is refused. None accepts any.
        log_with: where losses and dev WER go while a model trains: the name of a tracker that accelerate knows
            (tensorboard, wandb, mlflow, trackio ... or one registered with accelerate), several, all that are
            installed, or none.
        data: corpora.
        model: recogniser.
        theta: rewind point.
        training: training of every round.
        pruning: what and how much is pruned.
        search: rounds.
        evaluation: test conditions.
    """

    run_dir: str = "runs/demo"
    seed: int = 0
    precision: Literal["no", "bf16", "fp16", "auto"] = "no"
    num_processes: int | None = None
    log_with: list[str] | str | None = "tensorboard"
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    theta: ThetaConfig = field(default_factory=ThetaConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)

    @property
    def wer_normalizer(self) -> str:
        """Text normaliser of every WER."""
        return self.evaluation.normalizer or self.data.normalizer
