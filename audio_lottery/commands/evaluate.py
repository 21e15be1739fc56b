"""``audio-lottery evaluate``: WER of any model under test conditions."""

from dataclasses import replace
from pathlib import Path

from jsonargparse import ArgumentError

from audio_lottery.config import validate
from audio_lottery.errors import ConfigError
from audio_lottery.settings import make_parser, to_config


def main(arguments: list[str]) -> None:
    """Evaluate a checkpoint on the test splits and suites of a configuration."""
    parser = make_parser("audio-lottery evaluate", "WER of any recogniser, clean and under noise, with intervals.")
    parser.add_argument("checkpoint", type=str, help="folder or Hub id of a model, e.g. runs/demo/round_03")
    parser.add_argument(
        "--suites",
        type=str,
        nargs="+",
        default=None,
        help="test conditions instead of evaluation.suites: clean, white@20,10,5,0dB, pink@10, babble@10, FOLDER@10, "
        "rir, rir:FOLDER, rir+pink@10, a YAML file, or a name that `audio-lottery recipes` lists, such as generated",
    )
    parser.add_argument("--stream", action="store_true", help="read test splits of the corpus hub without keeping them")
    parser.add_argument("--worst", type=int, default=10, help="worst utterances shown with alignments (default 10)")
    parser.add_argument(
        "--out", type=Path, default=None, help="folder for evaluation.json, evaluation.md and the transcripts"
    )
    try:
        namespace = parser.parse_args(arguments)
        checkpoint, out = namespace.pop("checkpoint"), namespace.pop("out")
        specs, stream, worst = namespace.pop("suites"), namespace.pop("stream"), namespace.pop("worst")
        config = to_config(parser, namespace)
    except ArgumentError as error:
        raise ConfigError(f"settings: {error}; --help lists all of them") from error
    if specs:
        from audio_lottery.data.noise import parse_suites

        suites = parse_suites(specs, Path(config.data.root).expanduser())
        config = replace(config, evaluation=replace(config.evaluation, suites=suites))
    validate(config, training=False)
    # Here and not above: they load torch, and a mistake in the settings should be told at once.
    from accelerate.state import PartialState

    from audio_lottery.evaluation.evaluate import evaluate_model
    from audio_lottery.report.evaluation import format_results, write_evaluation

    outcome = evaluate_model(checkpoint, config, stream=stream)
    if PartialState().is_main_process:
        print(format_results({name: evaluation.result for name, evaluation in outcome.items()}))
        if out is not None:
            write_evaluation(Path(str(out)), checkpoint, outcome, worst)
            print(f"\nwritten: {out}/evaluation.json, {out}/evaluation.md, {out}/hypotheses/")
