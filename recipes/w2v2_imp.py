"""Iterative magnitude pruning of a Wav2Vec2 CTC recogniser, rewinding to θ.

    python recipes/w2v2_imp.py                                              # the demo, on synthesised speech
    accelerate launch recipes/w2v2_imp.py --config w2v2_librispeech         # a file of recipes/configs, or one's own
    python recipes/w2v2_imp.py --help                                       # every setting

Without a checkout the same is ``audio-lottery search --config w2v2_mini``, and on several processes
``accelerate launch -m audio_lottery.cli search --config w2v2_librispeech``.

Running the same command again continues a run that was stopped.
"""

import sys
from pathlib import Path

from audio_lottery.cli import run
from audio_lottery.commands.search import run_search
from audio_lottery.settings import parse_config

DEFAULT = Path(__file__).parent / "configs" / "w2v2_mini.yaml"


def main() -> int:
    """Parse the settings and run the search."""
    arguments = sys.argv[1:]
    if not any(argument == "--config" or argument.startswith("--config=") for argument in arguments):
        arguments = ["--config", str(DEFAULT), *arguments]
    return run(lambda: run_search(parse_config(arguments)))


if __name__ == "__main__":
    sys.exit(main())
