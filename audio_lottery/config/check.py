"""What the types of the settings cannot say."""

import re
from itertools import pairwise

from audio_lottery.config.learning import DistillConfig, TrainingConfig
from audio_lottery.config.run import RunConfig
from audio_lottery.config.speech import AugmentConfig
from audio_lottery.errors import ConfigError

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
    require(not training or "clean" in names, "evaluation.suites needs one suite named clean")
    require("dev" not in names, "evaluation suite name 'dev' is taken: it is the dev set in every result")
    for suite in config.evaluation.suites:
        require(
            (suite.noise is None) == (suite.snr_db is None),
            f"evaluation suite '{suite.name}': noise and snr_db go together",
        )
        require(
            suite.name.replace("_", "").replace("-", "").isalnum(),
            f"evaluation suite name '{suite.name}': letters, digits, - and _ only",
        )
    problems += _decoder_problems(config)
    if problems:
        raise ConfigError("; ".join(problems))


def _decoder_problems(config: RunConfig) -> list[str]:
    decoder = config.evaluation.decoder
    checks = [
        (
            config.evaluation.bootstrap == 0 or config.evaluation.bootstrap >= 100,
            "evaluation.bootstrap must be 100 or more (1000 is usual), or 0 for no intervals",
        ),
        (
            config.evaluation.max_batch_seconds is None or config.evaluation.max_batch_seconds > 0,
            "evaluation.max_batch_seconds must be positive",
        ),
        (
            config.evaluation.precision != "int8" or config.evaluation.runtime == "sparse",
            "evaluation.precision int8 needs evaluation.runtime sparse",
        ),
        (decoder.nbest >= 1, f"evaluation.decoder.nbest is {decoder.nbest}; it must be 1 or more"),
        (decoder.beam_size >= decoder.nbest, "evaluation.decoder.beam_size must be at least nbest"),
        (decoder.kind == "beam" or decoder.lm is None, "evaluation.decoder.lm needs evaluation.decoder.kind beam"),
        (decoder.kind == "beam" or decoder.lexicon is None, "evaluation.decoder.lexicon needs kind beam"),
        (decoder.kind == "beam" or decoder.nbest == 1, "evaluation.decoder.nbest needs evaluation.decoder.kind beam"),
    ]
    return [message for holds, message in checks if not holds]


def _pruning_problems(config: RunConfig) -> list[str]:
    """Ranges; what goes with which method is the method's to say (`audio_lottery.lottery.methods.check_method`)."""
    pruning, rounds = config.pruning, config.search.rounds
    targets = pruning.targets
    falling = all(one > other for one, other in pairwise(targets))
    checks = [
        (0 < pruning.rate < 1, f"pruning.rate is {pruning.rate}; it must lie between 0 and 1"),
        (all(0 < target <= 1 for target in targets) and falling, "pruning.targets must fall, each in (0, 1]"),
        (not targets or len(targets) >= rounds, f"search.rounds is {rounds} and pruning.targets names {len(targets)}"),
        (pruning.every >= 1, "pruning.every must be 1 or more"),
        (0 <= pruning.begin < pruning.end <= 1, "pruning.begin and end must satisfy 0 <= begin < end <= 1"),
        (pruning.stages >= 1, "pruning.stages must be 1 or more"),
        (pruning.calibration >= 1, "pruning.calibration must be 1 or more"),
        (pruning.finetune_lr > 0, "pruning.finetune_lr must be positive"),
        (
            pruning.dense_steps is None or pruning.dense_steps >= 0,
            f"pruning.dense_steps is {pruning.dense_steps}; it must be 0 or more",
        ),
        (
            pruning.dense_steps != 0 or pruning.rewind != "step",
            "pruning.dense_steps is 0: round 0 takes no step that pruning.rewind step could go back to",
        ),
    ]
    return [message for holds, message in checks if not holds]


def _augment_problems(section: str, augment: AugmentConfig) -> list[str]:
    low, high = augment.snr_db
    amplitude = augment.noise_amplitude
    checks = [
        (0 <= augment.noise_prob <= 1, f"{section}.noise_prob is {augment.noise_prob}; it must be in [0, 1]"),
        (0 <= augment.rir_prob <= 1, f"{section}.rir_prob is {augment.rir_prob}; it must be in [0, 1]"),
        (bool(augment.noise) or augment.noise_prob == 0, f"{section}.noise_prob is set but {section}.noise is empty"),
        (augment.rirs is not None or augment.rir_prob == 0, f"{section}.rir_prob is set but {section}.rirs is not"),
        (low <= high, f"{section}.snr_db is {low:g} to {high:g}; the lower ratio comes first"),
        (
            not amplitude or (len(amplitude) == 2 and 0 <= amplitude[0] <= amplitude[1]),
            f"{section}.noise_amplitude is {list(amplitude)}; it must be two factors of 0 or more, the lower one first",
        ),
        (
            not amplitude or not set(augment.noise) & {"white", "pink", "babble"},
            f"{section}.noise_amplitude takes folders of recordings; white, pink and babble have no level of their own",
        ),
        (bool(augment.speeds), f"{section}.speeds is empty; [1.0] changes nothing"),
        (all(0.5 <= s <= 2 for s in augment.speeds), f"{section}.speeds: every factor must be in [0.5, 2]"),
    ]
    return [message for holds, message in checks if not holds]


def _schedule_problems(section: str, training: TrainingConfig) -> list[str]:
    one_length = (training.max_steps is None) != (training.epochs is None)
    both = training.warmup_ratio + training.hold_ratio
    checks = [
        (one_length, f"{section}: set exactly one of max_steps and epochs"),
        (
            0 <= training.warmup_ratio < 1,
            f"{section}.warmup_ratio is {training.warmup_ratio}; it must be in [0, 1)",
        ),
        (training.hold_ratio >= 0, f"{section}.hold_ratio is {training.hold_ratio}; it must not be negative"),
        (both <= 1, f"{section}: warmup_ratio and hold_ratio are {both:g} together; that is more than all steps"),
    ]
    for name in _POSITIVE:
        value = getattr(training, name)
        checks.append((value is None or value > 0, f"{section}.{name} is {value}; it must be positive"))
    return [message for holds, message in checks if not holds]


def _distill_problems(section: str, distill: DistillConfig, augment: AugmentConfig) -> list[str]:
    """Ranges; that the teacher fits the student shows when both are loaded."""
    weights = {name: getattr(distill, name) for name in ("weight", "label_weight", "hidden_weight")}
    checks = [
        (weight >= 0, f"{section}.{name} is {weight}; it must not be negative") for name, weight in weights.items()
    ]
    checks += [
        (distill.temperature > 0, f"{section}.temperature is {distill.temperature}; it must be positive"),
        (
            distill.weight != 0 or distill.label_weight != 0,
            f"{section}: weight and label_weight are both 0, so that the output layer would learn nothing",
        ),
        (
            bool(distill.hidden_layers) or distill.hidden_weight == 0,
            f"{section}.hidden_weight is set but {section}.hidden_layers names no layer",
        ),
        (distill.cache_gb > 0, f"{section}.cache_gb is {distill.cache_gb:g}; it must be positive"),
    ]
    if distill.teaches and distill.cache:
        checks += _cache_checks(section, distill, augment)
    for pattern in distill.hidden_layers:
        try:
            re.compile(pattern)
        except re.error as error:
            checks.append((False, f"{section}.hidden_layers: '{pattern}' is no regular expression ({error})"))
    return [message for holds, message in checks if not holds]


def _cache_checks(section: str, distill: DistillConfig, augment: AugmentConfig) -> list[tuple[bool, str]]:
    """A teacher must hear the same in every epoch, if what it says of the first is to stand for all."""
    other = f"{section}.cache: the teacher would hear another %s in every epoch ({section.removesuffix('distill')}"
    other += "augment.%s); %s, or leave the cache off"
    return [
        (len(set(augment.speeds)) < 2, other % ("speed", "speeds", "name one speed")),
        (distill.clean_teacher or augment.noise_prob == 0, other % ("noise", "noise_prob", "set clean_teacher")),
        (distill.clean_teacher or augment.rir_prob == 0, other % ("room", "rir_prob", "set clean_teacher")),
    ]


def _training_problems(config: RunConfig) -> list[str]:
    checks = [
        (
            not config.search.theta_only or bool(config.theta.train),
            "search.theta_only: theta.train names no corpus, so there is no θ to train",
        ),
        (config.search.rounds >= 0, f"search.rounds is {config.search.rounds}; it must be 0 or more"),
        (bool(config.data.train), "data.train names no corpus"),
        (bool(config.data.dev), "data.dev names no corpus; the best model of a round is chosen there"),
        (bool(config.theta.dev) or not config.theta.train, "theta.train is set but theta.dev names no corpus"),
    ]
    problems = _pruning_problems(config)
    sections = {"training": config.training} | ({"theta.training": config.theta.training} if config.theta.train else {})
    for section, training in sections.items():
        problems += _schedule_problems(section, training)
        problems += _augment_problems(f"{section}.augment", training.augment)
        problems += _distill_problems(f"{section}.distill", training.distill, training.augment)
    own_teacher = not config.theta.train or config.theta.training.distill.teacher not in ("dense", "theta")
    checks.append(
        (own_teacher, "theta.training.distill.teacher comes before θ and round 0: name a folder or Hub id of a model")
    )
    return [message for holds, message in checks if not holds] + problems
