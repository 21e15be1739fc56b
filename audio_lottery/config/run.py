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
        log_with: experiment trackers that get loss and dev WER, by the names that accelerate knows them by
            (tensorboard, wandb, mlflow, trackio ...); several, or none.
        num_processes: processes the run expects; a launch with another number is refused. None accepts any.
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
    log_with: tuple[str, ...] = ("tensorboard",)
    num_processes: int | None = None
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    theta: ThetaConfig = field(default_factory=ThetaConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
