"""``audio-lottery <verb>``: the package's functions from a shell."""

import logging
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path

from audio_lottery.errors import AudioLotteryError

# Verb: (summary, module with its ``main``). Imported when called: torch takes seconds to load.
_VERBS = {
    "search": ("find winning tickets: train, prune, rewind, evaluate, round by round", "search"),
    "plan": ("what a search would do, and how long it would take here", "plan"),
    "recipes": ("list the configs and suites that come with the package, copy one", "recipes"),
    "evaluate": ("WER of any model under test conditions", "evaluate"),
    "transcribe": ("recordings into text, JSON or subtitles; live from standard input", "transcribe"),
    "score": ("WER of a file of hypotheses against a file of references", "score"),
    "select": ("choose winning, best and extreme tickets of a run on dev", "select"),
    "compare": ("searches side by side: initialisations, methods or families, over seeds", "compare"),
    "report": ("one page of a run, or of several side by side, to open in a browser", "report"),
    "publish": ("put a ticket onto the Hub: checked, with a model card, private by default", "publish"),
    "tune-decoder": ("fit the weights of a language model on dev", "tune_decoder"),
    "compress": ("write a sparse model as a small file", "compress"),
    "export": ("write a model for ONNX Runtime or OpenVINO", "export"),
    "bench": ("speed of a sparse model beside dense runtimes", "bench"),
    "prepare": ("fetch or make a corpus and its manifests", "prepare"),
}

_USAGE = """usage: audio-lottery <verb> [options]

{verbs}

`audio-lottery <verb> --help` lists the options of a verb."""


def run(function: Callable[[], None]) -> int:
    """Call ``function`` and turn a user's error into one line on stderr.

    Returns:
        The exit status: 0, 2 for a user's error, 130 for Ctrl-C.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _quiet_libraries()
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


def run_recipe(default: Path) -> int:
    """What a recipe runs: a search with the settings of its command line, or of ``default`` where no config is given.

    Returns:
        The exit status, as `run`.
    """
    from audio_lottery.commands.search import run_search
    from audio_lottery.settings import parse_config

    arguments = sys.argv[1:]
    if not any(argument == "--config" or argument.startswith("--config=") for argument in arguments):
        arguments = ["--config", str(default), *arguments]
    return run(lambda: run_search(parse_config(arguments)))


def _quiet_libraries() -> None:
    """Keep other libraries' notes and progress bars out of the terminal: their warnings stay, and bars of downloads."""
    for noisy in ("httpx", "datasets", "transformers", "matplotlib", "fontTools"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    from huggingface_hub import constants
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars

    if constants.HF_HUB_DISABLE_PROGRESS_BARS is not None:  # the user has decided
        return
    # "Loading weights", "Writing model shards": as it is imported, transformers asks the Hub's library whether bars are
    # wanted. Its own switch is used only where it has been imported, for that takes two seconds, and a mistake in the
    # settings should be told at once.
    if "transformers" in sys.modules:
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
    disable_progress_bars()
    enable_progress_bars("huggingface_hub")


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of ``audio-lottery``."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    listing = _USAGE.format(verbs="\n".join(f"  {name:<14}{summary}" for name, (summary, _) in _VERBS.items()))
    if not words or words[0] in ("-h", "--help"):
        print(listing)
        return 0 if words else 2
    if words[0] not in _VERBS:
        print(f"audio-lottery: error: there is no verb '{words[0]}'; there are {', '.join(_VERBS)}", file=sys.stderr)
        return 2

    def call() -> None:
        import_module(f"audio_lottery.commands.{_VERBS[words[0]][1]}").main(words[1:])

    return run(call)


if __name__ == "__main__":
    sys.exit(main())
