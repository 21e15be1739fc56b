"""The whole vocabulary of a run.

A run is described by one `RunConfig`: nested dataclasses whose help texts are the documentation of the settings.
`audio_lottery.settings` reads them from files and command lines.
"""

from audio_lottery.config.check import validate
from audio_lottery.config.grid import ArmConfig, GridConfig
from audio_lottery.config.learning import (
    DistillConfig,
    ModelConfig,
    PruningConfig,
    RuleConfig,
    SearchConfig,
    SpecAugmentConfig,
    ThetaConfig,
    TrainingConfig,
)
from audio_lottery.config.run import RunConfig
from audio_lottery.config.speech import (
    AugmentConfig,
    CorpusConfig,
    DataConfig,
    DecoderConfig,
    EvaluationConfig,
    SuiteConfig,
)

__all__ = [
    "ArmConfig",
    "AugmentConfig",
    "CorpusConfig",
    "DataConfig",
    "DecoderConfig",
    "DistillConfig",
    "EvaluationConfig",
    "GridConfig",
    "ModelConfig",
    "PruningConfig",
    "RuleConfig",
    "RunConfig",
    "SearchConfig",
    "SpecAugmentConfig",
    "SuiteConfig",
    "ThetaConfig",
    "TrainingConfig",
    "validate",
]
