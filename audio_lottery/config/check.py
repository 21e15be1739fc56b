"""What the types of the settings cannot say."""

from audio_lottery.config.run import RunConfig
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
