"""The whole vocabulary of a run in one file.

A run is described by one `RunConfig`: nested dataclasses whose help texts are the documentation of the settings.
`audio_lottery.settings` reads them from files and command lines.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from audio_lottery.errors import ConfigError


@dataclass
class CorpusConfig:
    """One split of one corpus.

    Corpora and suites are tuples in the configuration because jsonargparse fills in fields that an overriding *list*
    leaves out from the list it replaces.

    Args:
        corpus: layout on disk: librispeech, common_voice, tedlium, jsonl; or mini-libri, mini-cv, mini-ted
            (made on first use).
        split: name of the split in that corpus, e.g. train-clean-100, train, train.jsonl.
        path: folder of the corpus, relative to data.root or absolute; not used by the mini corpora.
        limit: use only this many utterances, spread evenly over the split.
    """

    corpus: str
    split: str
    path: str = ""
    limit: int | None = None


@dataclass
class DataConfig:
    """Speech in: which corpora, and what of them is trained on.

    Args:
        root: folder that relative corpus and noise paths start from.
        train: splits the search trains on, joined.
        dev: splits the best model of a round is chosen on.
        test: splits that WER is reported on; never filtered.
        normalizer: text normaliser of training labels and of every WER: none or basic.
        out_of_vocabulary: training transcripts with characters the model cannot write: error, or drop (counted).
        min_seconds: shorter utterances are dropped from training (counted).
        max_seconds: longer utterances are dropped from training (counted).
        num_workers: processes that decode audio ahead of the training loop; 0 decodes in the loop.
    """

    root: str = "."
    train: tuple[CorpusConfig, ...] = (CorpusConfig("mini-ted", "train"),)
    dev: tuple[CorpusConfig, ...] = (CorpusConfig("mini-ted", "dev"),)
    test: tuple[CorpusConfig, ...] = (CorpusConfig("mini-ted", "test"),)
    normalizer: str = "basic"
    out_of_vocabulary: Literal["error", "drop"] = "error"
    min_seconds: float = 0.1
    max_seconds: float = 20.0
    num_workers: int = 0


@dataclass
class ModelConfig:
    """The recogniser.

    Args:
        init: a Hub id or folder of any transformers CTC (or bare encoder) checkpoint, or a preset built from
            scratch: w2v2-mini.
        revision: branch, tag or commit of a Hub id.
        random_init: keep the architecture of init but draw all weights at random (θ0).
        characters: output characters when the checkpoint brings no tokenizer; space and the CTC blank are added.
        attention: transformers' attention implementation: eager, sdpa, flash_attention_2 ...; none takes its default.
            Eager is a third faster to train on CPUs with utterances of a few seconds.
        freeze_feature_encoder: do not train the convolutional front end (usual when fine-tuning pretrained
            wav2vec 2.0).
        overrides: fields of the transformers config to change, e.g. {hidden_dropout: 0.1}.
    """

    init: str = "w2v2-mini"
    revision: str | None = None
    random_init: bool = False
    characters: str = "abcdefghijklmnopqrstuvwxyz'"
    attention: str | None = None
    freeze_feature_encoder: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)


@dataclass
class SpecAugmentConfig:
    """SpecAugment on the encoder's input features.

    Source: Park et al. 2019, arXiv:1904.08779; spans as in wav2vec 2.0 (Baevski et al. 2020, arXiv:2006.11477).

    Args:
        time_prob: share of frames that start within masked spans, 0 turns time masking off.
        time_length: length of a masked span in frames.
        feature_prob: share of feature channels masked, 0 turns it off.
        feature_length: length of a masked span in channels.
    """

    time_prob: float = 0.05
    time_length: int = 10
    feature_prob: float = 0.0
    feature_length: int = 16


@dataclass
class TrainingConfig:
    """One training: how long, how fast, how often it is looked at.

    Args:
        max_steps: optimiser steps; exactly one of max_steps and epochs is set.
        epochs: passes over the training set, instead of max_steps.
        max_batch_seconds: padded audio of one micro-batch on one process, in seconds.
        accumulation_steps: micro-batches per optimiser step and process.
        learning_rate: peak learning rate of AdamW.
        warmup_ratio: share of the steps in which the rate rises linearly from zero.
        decay: shape of the fall after the warm-up: linear or cosine to zero, or constant.
        adam_beta2: AdamW decay of the second moment; 0.98 follows a changing gradient faster than torch's 0.999.
        weight_decay: AdamW weight decay on weights of two or more dimensions; biases and norms have none.
        max_grad_norm: gradients are clipped to this norm.
        specaugment: masking of the encoder's input.
        eval_every: steps between evaluations on dev; the last step is always evaluated.
        save_every: steps between checkpoints to resume from.
        log_every: steps between TensorBoard points.
        max_nonfinite_steps: give up after this many steps in a row with a loss or gradient that is not finite.
    """

    max_steps: int | None = None
    epochs: float | None = None
    max_batch_seconds: float = 48.0
    accumulation_steps: int = 1
    learning_rate: float = 1e-3
    warmup_ratio: float = 0.1
    decay: Literal["linear", "cosine", "constant"] = "linear"
    adam_beta2: float = 0.98
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    specaugment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    eval_every: int = 500
    save_every: int = 500
    log_every: int = 10
    max_nonfinite_steps: int = 20


@dataclass
class ThetaConfig:
    """The rewind point θ: the weights that survivors return to.

    With no corpora, θ is the model as loaded or drawn. With corpora, the model is trained on them once and the
    result is θ
    (θLibri, θCV).

    Args:
        train: splits θ is trained on; empty: θ is model.init itself.
        dev: splits the best θ is chosen on.
        training: how θ is trained.
    """

    train: tuple[CorpusConfig, ...] = ()
    dev: tuple[CorpusConfig, ...] = ()
    training: TrainingConfig = field(default_factory=TrainingConfig)


@dataclass
class PruningConfig:
    """What is pruned, and how much a round.

    Args:
        rate: share of the remaining weights that each round removes.
        include: regular expressions of parameter names; linear, convolution and recurrent weights that match
            are prunable.
        exclude: regular expressions of parameter names that stay dense; by default the CTC output layer.
    """

    rate: float = 0.2
    include: list[str] = field(default_factory=lambda: [".*"])
    exclude: list[str] = field(default_factory=lambda: [r"^lm_head\.", r"^ctc_head\."])


@dataclass
class SearchConfig:
    """Iterative magnitude pruning.

    Args:
        rounds: rounds after the dense round 0; round k keeps (1 - rate)^k of the prunable weights.
    """

    rounds: int = 5


@dataclass
class SuiteConfig:
    """One test condition.

    Args:
        name: the suite's name; 'clean' gives the column test_wer, any other test_wer_NAME.
        noise: white, pink, or a folder of noise files (relative to data.root); none for clean speech.
        snr_db: signal-to-noise ratio in dB.
    """

    name: str
    noise: str | None = None
    snr_db: float | None = None


@dataclass
class EvaluationConfig:
    """WER on the test splits.

    Args:
        suites: test conditions; each is run on the whole of data.test.
        max_batch_seconds: padded audio of one evaluation batch, in seconds.
        seed: seed of the noise; with the suite's name and the utterance id it fixes every sample of the noise.
    """

    suites: tuple[SuiteConfig, ...] = (SuiteConfig("clean"), SuiteConfig("noise10", noise="pink", snr_db=10.0))
    max_batch_seconds: float = 120.0
    seed: int = 0


@dataclass
class RunConfig:
    """Everything a search needs.

    Args:
        run_dir: folder of the run; running the same command again continues it.
        seed: seed of initialisation, data order, dropout and augmentation.
        precision: no (float32), bf16 or fp16 autocast in training; the CTC loss and every evaluation
            are float32.
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
    precision: Literal["no", "bf16", "fp16"] = "no"
    num_processes: int | None = None
    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    theta: ThetaConfig = field(default_factory=ThetaConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    pruning: PruningConfig = field(default_factory=PruningConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)


_POSITIVE = (
    "max_steps",
    "epochs",
    "max_batch_seconds",
    "accumulation_steps",
    "eval_every",
    "save_every",
    "log_every",
    "learning_rate",
    "max_grad_norm",
)


def validate(config: RunConfig, training: bool = True) -> None:
    """Check what types cannot say.

    Args:
        config: the settings.
        training: whether the training sections will be used.

    Raises:
        ConfigError: names the setting and what it may be.
    """
    problems: list[str] = []

    def require(condition: bool, message: str) -> None:
        if not condition:
            problems.append(message)

    if training:
        problems += _training_problems(config)
    require(bool(config.data.test), "data.test names no corpus")
    names = [suite.name for suite in config.evaluation.suites]
    require(bool(names), "evaluation.suites is empty")
    require(len(set(names)) == len(names), f"evaluation.suites has a name twice: {', '.join(names)}")
    require(bool(names) and "clean" in names, "evaluation.suites needs one suite named clean")
    for suite in config.evaluation.suites:
        require(
            (suite.noise is None) == (suite.snr_db is None),
            f"evaluation suite '{suite.name}': noise and snr_db go together",
        )
        require(
            suite.name.replace("_", "").replace("-", "").isalnum(),
            f"evaluation suite name '{suite.name}': letters, digits, - and _ only",
        )
    if problems:
        raise ConfigError("; ".join(problems))


def _training_problems(config: RunConfig) -> list[str]:
    checks = [
        (0 < config.pruning.rate < 1, f"pruning.rate is {config.pruning.rate}; it must lie between 0 and 1"),
        (config.search.rounds >= 0, f"search.rounds is {config.search.rounds}; it must be 0 or more"),
        (bool(config.data.train), "data.train names no corpus"),
        (bool(config.data.dev), "data.dev names no corpus; the best model of a round is chosen there"),
        (bool(config.theta.dev) or not config.theta.train, "theta.train is set but theta.dev names no corpus"),
    ]
    sections = {"training": config.training} | ({"theta.training": config.theta.training} if config.theta.train else {})
    for section, training in sections.items():
        one_length = (training.max_steps is None) != (training.epochs is None)
        checks.append((one_length, f"{section}: set exactly one of max_steps and epochs"))
        in_range = 0 <= training.warmup_ratio < 1
        checks.append((in_range, f"{section}.warmup_ratio is {training.warmup_ratio}; it must be in [0, 1)"))
        for name in _POSITIVE:
            value = getattr(training, name)
            checks.append((value is None or value > 0, f"{section}.{name} is {value}; it must be positive"))
    return [message for holds, message in checks if not holds]
