"""Initialisations side by side: θ0 (random), θCV, θLibri or any checkpoint, searched on one corpus over seeds.

    python recipes/compare_inits.py                                     # on synthesised speech, in minutes
    python recipes/compare_inits.py compare_an4 --set data.root=/corpora
    python recipes/compare_inits.py compare_tedlium --launcher slurm --parallel 9
    python recipes/compare_inits.py --help                              # every option

Running the same command again goes on with what is missing.
"""

import sys

from audio_lottery.cli import run
from audio_lottery.commands.compare import main

if __name__ == "__main__":
    words = sys.argv[1:]
    named = bool(words) and not words[0].startswith("-")
    sys.exit(run(lambda: main(words if named or words == ["--help"] else ["compare_mini", *words])))
