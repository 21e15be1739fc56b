"""``audio-lottery <verb>``: the package's functions from a shell."""

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from audio_lottery.errors import AudioLotteryError

if TYPE_CHECKING:  # the verbs import what they need when they run: torch takes seconds to load
    from audio_lottery.config import RunConfig

_VERBS: dict[str, tuple[str, Callable[[list[str]], None]]] = {}

_USAGE = """usage: audio-lottery <verb> [options]

{verbs}

`audio-lottery <verb> --help` lists the options of a verb."""


def _verb(name: str, summary: str) -> Callable[[Callable[[list[str]], None]], Callable[[list[str]], None]]:
    def register(function: Callable[[list[str]], None]) -> Callable[[list[str]], None]:
        _VERBS[name] = (summary, function)
        return function

    return register


@_verb("search", "find winning tickets: train, prune, rewind, evaluate, round by round")
def _search(arguments: list[str]) -> None:
    from audio_lottery.settings import parse_config

    run_search(parse_config(arguments, prog="audio-lottery search"))


@_verb("evaluate", "WER of a saved model on the test splits and suites of a config")
def _evaluate(arguments: list[str]) -> None:
    from jsonargparse import ArgumentError

    from audio_lottery.config import validate
    from audio_lottery.errors import ConfigError
    from audio_lottery.lottery.evaluate import evaluate_model
    from audio_lottery.settings import make_parser, to_config

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


@_verb("prepare", "make or fetch a corpus: prepare mini")
def _prepare(arguments: list[str]) -> None:
    import argparse

    from audio_lottery.data.corpora.mini import prepare_mini

    parser = argparse.ArgumentParser(prog="audio-lottery prepare")
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="corpus")
    mini = corpora.add_parser("mini", help="synthesise mini-libri, mini-cv and mini-ted with eSpeak NG")
    mini.add_argument("--out", type=Path, default=None, help="folder (default: the cache that the recipes read)")
    mini.add_argument("--force", action="store_true", help="make it again even if it is there")
    options = parser.parse_args(arguments)
    made = prepare_mini(options.out, force=options.force)
    for name, folder in (("mini-libri", made.libri), ("mini-cv", made.cv), ("mini-ted", made.ted)):
        print(f"{name}: {folder}")


def run_search(config: "RunConfig") -> None:
    """Run a search, write ``summary.csv`` and the curve after every round, and print the table at the end."""
    from audio_lottery.lottery.search import search
    from audio_lottery.report.tables import format_table
    from audio_lottery.report.write import write_report

    rows = search(config, on_round=write_report)
    from accelerate.state import PartialState

    if PartialState().is_main_process:
        run_dir = Path(config.run_dir)
        print(format_table(rows))
        print(f"\ntable:  {run_dir / 'summary.csv'}\nplot:   {run_dir / 'curve.png'} and {run_dir / 'curve.svg'}")
        print(f"models: {run_dir}/round_*")


def run(function: Callable[[], None]) -> int:
    """Call ``function`` and turn a user's error into one line on stderr.

    Returns:
        The exit status: 0, 2 for a user's error, 130 for Ctrl-C.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for noisy in ("httpx", "datasets", "transformers", "matplotlib", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from tqdm.contrib.logging import logging_redirect_tqdm

    try:
        with logging_redirect_tqdm():
            function()
    except AudioLotteryError as error:
        print(f"audio-lottery: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("audio-lottery: stopped; the same command continues", file=sys.stderr)
        return 130
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``audio-lottery``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    listing = _USAGE.format(verbs="\n".join(f"  {name:<10}{summary}" for name, (summary, _) in _VERBS.items()))
    if not words or words[0] in ("-h", "--help"):
        print(listing)
        return 0 if words else 2
    if words[0] not in _VERBS:
        print(f"audio-lottery: error: there is no verb '{words[0]}'; there are {', '.join(_VERBS)}", file=sys.stderr)
        return 2
    return run(lambda: _VERBS[words[0]][1](words[1:]))


if __name__ == "__main__":
    sys.exit(main())
