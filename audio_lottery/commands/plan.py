"""``audio-lottery plan``: what a search would do."""

from jsonargparse import ArgumentError

from audio_lottery.config import validate
from audio_lottery.errors import ConfigError
from audio_lottery.settings import make_parser, to_config


def main(arguments: list[str]) -> None:
    """Print tensors, rounds, steps, disk, memory and, after a short trial, time; nothing of the run is written."""
    parser = make_parser("audio-lottery plan", "What a search would do, and how long it would take on this machine.")
    parser.add_argument(
        "--trial_steps", type=int, default=3, help="training steps that are timed (default 3); 0 makes no trial"
    )
    if arguments and not arguments[0].startswith("-"):  # plan CONFIG
        arguments = ["--config", *arguments]
    try:
        namespace = parser.parse_args(arguments)
        trial_steps = namespace.pop("trial_steps")
        config = to_config(parser, namespace)
    except ArgumentError as error:
        raise ConfigError(f"settings: {error}; --help lists all of them") from error
    if trial_steps < 0:
        raise ConfigError(f"--trial_steps is {trial_steps}; it must be 0 or more")
    validate(config)
    # Here and not above: they load torch, and a mistake in the settings should be told at once.
    from audio_lottery.lottery.plan import make_plan
    from audio_lottery.report.plan import format_plan

    print(format_plan(make_plan(config, trial_steps)))
