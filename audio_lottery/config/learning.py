"""The learning side of the settings: model, training, θ and pruning."""

from dataclasses import dataclass, field
from typing import Any, Literal

from audio_lottery.config.speech import AugmentConfig, CorpusConfig


@dataclass
class ModelConfig:
    """The recogniser.

    Args:
        init: a Hub id or folder of any transformers CTC (or bare encoder) checkpoint, Parakeet transducer or Whisper,
            or a preset built from scratch: w2v2-mini, conformer-mini, cnn-lstm-mini, rnnt-mini ...
        revision: branch, tag or commit of a Hub id.
        random_init: keep the architecture of init but draw all weights at random (θ0).
        characters: output characters of a new output layer, where a bare encoder brings no tokenizer; space and the CTC
            blank are added.
        tokenizer: folder of a word-piece vocabulary (`audio-lottery prepare tokenizer`) to use instead of characters.
        attention: transformers' attention implementation: eager, sdpa, flash_attention_2 ...; none takes its default.
            Eager is a third faster to train on CPUs with utterances of a few seconds.
        freeze_feature_encoder: do not train the convolutional front end (usual when fine-tuning pretrained
            wav2vec 2.0).
        overrides: fields of the transformers config to change, e.g. {hidden_dropout: 0.1}.
        reset_head: draw the output layer anew for model.characters, whatever init brings; for a ticket that is trained
            on a corpus with other characters.
        window: seconds that a model takes at once, where it pads everything to one length (Whisper); a second more
            than the longest training speech. None takes what the checkpoint was trained with, else all it can (30).
            Longer test utterances are cut where they are quietest.
        language: what is spoken, for a multilingual model (Whisper): a code or an English name, e.g. de or german.
    """

    init: str = "w2v2-mini"
    revision: str | None = None
    random_init: bool = False
    characters: str = "abcdefghijklmnopqrstuvwxyz'"
    tokenizer: str | None = None
    attention: str | None = None
    freeze_feature_encoder: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)
    reset_head: bool = False
    window: float | None = None
    language: str | None = None


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
class DistillConfig:
    """Knowledge distillation: a training also learns what a teacher says of the same speech (docs/distill.md).

    Source: Hinton et al. 2015, "Distilling the Knowledge in a Neural Network", arXiv:1503.02531.

    Args:
        teacher: none; dense (the dense model of round 0, which itself trains without a teacher), theta (θ), or the
            folder or Hub id of a trained model with the same vocabulary.
        weight: of the divergence between the outputs of teacher and student; 0 leaves it out.
        label_weight: of the loss of the transcripts, where there is a teacher.
        temperature: what outputs are divided by before their softmax; the divergence counts with its square.
        hidden_weight: of the mean squared error between hidden states; 0 leaves it out.
        hidden_layers: regular expressions of module names; what these modules put out is compared, and the teacher's
            have the same names.
        clean_teacher: the teacher hears speech without the noise and reverberation of augment.
        cache: the teacher hears every utterance once, before the first step, and what it says is kept in the memory of
            every process; only where it hears the same in every epoch: at one speed, without noise and reverberation of
            its own (clean_teacher).
        cache_gb: most memory of a process for that, in GB.
    """

    teacher: str | None = None
    weight: float = 1.0
    label_weight: float = 1.0
    temperature: float = 1.0
    hidden_weight: float = 0.0
    hidden_layers: tuple[str, ...] = ()
    clean_teacher: bool = False
    cache: bool = False
    cache_gb: float = 4.0

    @property
    def teaches(self) -> bool:
        """Whether a teacher changes anything."""
        return self.teacher is not None and (self.weight > 0 or self.hidden_weight > 0)


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
        hold_ratio: share of the steps behind the warm-up in which the rate stays at its peak; for gradual pruning,
            whose weights recover under the final mask while the rate falls (its round 0 has no hold).
        decay: shape of the fall after that: linear or cosine to zero, or constant.
        adam_beta2: AdamW decay of the second moment; 0.98 follows a changing gradient faster than torch's 0.999.
        weight_decay: AdamW weight decay on weights of two or more dimensions; biases and norms have none.
        max_grad_norm: gradients are clipped to this norm.
        specaugment: masking of the encoder's input.
        augment: noise, reverberation and speed of the training speech.
        distill: a teacher.
        eval_every: steps between evaluations on dev; the last step is always evaluated.
        best_by: dev rate that the best model is chosen by, wer or cer; the other decides between equals. cer for a
            training that hardly gets a word right (a θ of few hours, or of many languages): at a WER of about 100 %
            one that writes little looks better than one that is learning to spell.
        save_every: steps between checkpoints to resume from.
        log_every: steps between the points that go to the trackers of log_with.
        max_nonfinite_steps: give up after this many steps in a row with a loss or gradient that is not finite.
    """

    max_steps: int | None = None
    epochs: float | None = None
    max_batch_seconds: float = 48.0
    accumulation_steps: int = 1
    learning_rate: float = 1e-3
    warmup_ratio: float = 0.1
    hold_ratio: float = 0.0
    decay: Literal["linear", "cosine", "constant"] = "linear"
    adam_beta2: float = 0.98
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    specaugment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    distill: DistillConfig = field(default_factory=DistillConfig)
    eval_every: int = 500
    best_by: Literal["wer", "cer"] = "wer"
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
class RuleConfig:
    """How single layers differ from the rest.

    Args:
        match: regular expression of parameter names.
        dense: keep them whole; they stay in the scope and count.
        floor: keep at least this density of each.
    """

    match: str
    dense: bool = False
    floor: float | None = None


@dataclass
class PruningConfig:
    """What is pruned, when, and from where the survivors go on. docs/methods.md has a section for every method.

    Args:
        method: imp (train, prune, rewind, again), omp (one shot from the trained dense model), mpi (one shot from θ),
            gmp (gradually while training), parp or parp_p (pruned weights go on training and are pruned again).
        score: what makes a weight important: magnitude, lamp, random, taylor, wanda, movement or obs.
        pattern: unstructured, block:RxC, nm:N:M, rows, columns or channels.
        allocation: how the density is shared between layers: global, uniform, uniform_plus or erk.
        rules: layers that differ.
        rate: share of the remaining weights that each round removes.
        targets: densities of the rounds 1, 2, ... instead of rate; falling, each in (0, 1].
        include: regular expressions of parameter names; linear, convolution and recurrent weights that match
            are prunable.
        exclude: regular expressions of parameter names that stay dense; none: the output layer of the family.
        rewind: where survivors go on from: theta (their values in θ), step (those after rewind_step steps of round 0),
            random (a fresh draw of the initialisation), permuted (the values of θ, shuffled within each tensor), lr
            (their trained values, with the schedule started again), reconstruct (as lr, but moved so that every layer's
            outputs on calibration speech stay close to those before) or none (their trained values, at a small constant
            learning rate).
        rewind_step: optimiser step of rewind step.
        finetune_lr: learning rate of rewind none, as a share of training.learning_rate.
        every: gmp and parp: optimiser steps between two prunings.
        begin: gmp: share of the steps before the first pruning.
        end: gmp: share of the steps by which the density is reached.
        stages: parp_p: densities between dense and the target, in equal steps.
        dense_steps: optimiser steps of round 0, where it trains for fewer or more than the other rounds; 0: round 0 is
            θ as it is, for models that can transcribe already.
        equal_budget: round k of mpi, gmp, parp and parp_p trains as long as rounds 0 to k together, which is what
            round k of imp costs; less round 0 where that teaches it.
        start: mask file that round 0 starts from, instead of dense.
        ticket: run folder whose masks are used, round by round, instead of making masks; with targets, those of its
            rounds that have these densities.
        control: none, or, with ticket: random_layers (random masks with the ticket's layer densities), random_uniform
            (random masks with its total), shuffled (each layer's mask shuffled). Without: dense (no pruning; round k
            trains as long as rounds 0 to k together).
        calibration: training utterances that taylor, wanda, obs and reconstruct look at.
    """

    method: Literal["imp", "omp", "mpi", "gmp", "parp", "parp_p"] = "imp"
    score: Literal["magnitude", "lamp", "random", "taylor", "wanda", "movement", "obs"] = "magnitude"
    pattern: str = "unstructured"
    allocation: Literal["global", "uniform", "uniform_plus", "erk"] = "global"
    rules: tuple[RuleConfig, ...] = ()
    rate: float = 0.2
    targets: tuple[float, ...] = ()
    include: list[str] = field(default_factory=lambda: [".*"])
    exclude: list[str] | None = None
    rewind: Literal["theta", "step", "random", "permuted", "lr", "reconstruct", "none"] = "theta"
    rewind_step: int | None = None
    finetune_lr: float = 0.1
    every: int = 20
    begin: float = 0.0
    end: float = 0.5
    stages: int = 3
    dense_steps: int | None = None
    equal_budget: bool = False
    start: str | None = None
    ticket: str | None = None
    control: Literal["none", "random_layers", "random_uniform", "shuffled", "dense"] = "none"
    calibration: int = 64


@dataclass
class SearchConfig:
    """How far to search.

    Args:
        rounds: rounds after the dense round 0; round k keeps (1 - rate)^k of the prunable weights, or targets[k - 1].
        keep: models of finished rounds that stay on disk: all; best (the dense round 0, the best on dev so far, and
            those that later rounds are made from); or masks (only those that later rounds are made from). Masks,
            metrics, transcripts and θ always stay; no mask or WER depends on it.
        theta_only: stop after θ, which other searches may start from (model.init: RUN/theta).
    """

    rounds: int = 5
    keep: Literal["all", "best", "masks"] = "all"
    theta_only: bool = False
