"""``audio-lottery evaluate``: WER of a saved model."""

from pathlib import Path

from jsonargparse import ArgumentError

from audio_lottery.config import validate
from audio_lottery.errors import ConfigError
from audio_lottery.lottery.evaluate import evaluate_model
from audio_lottery.settings import make_parser, to_config


def main(arguments: list[str]) -> None:
    """Evaluate a checkpoint on the test splits and suites of a configuration."""
    parser = make_parser("audio-lottery evaluate")
    parser.add_argument("checkpoint", type=str, help="folder or Hub id of a CTC model, e.g. runs/demo/round_03")
    parser.add_argument("--out", type=Path, default=None, help="write the results to this JSON file")
    try:
        namespace = parser.parse_args(arguments)
        checkpoint, out = namespace.pop("checkpoint"), namespace.pop("out")
        config = to_config(parser, namespace)
    except ArgumentError as error:
        raise ConfigError(f"settings: {error}; --help lists all of them") from error
    validate(config, training=False)
    evaluate_model(checkpoint, config, None if out is None else Path(str(out)))
