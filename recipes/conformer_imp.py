"""Iterative magnitude pruning of a Conformer CTC recogniser (log-mel features), rewinding to θ.

    python recipes/conformer_imp.py                                         # in minutes, on synthesised speech
    python recipes/conformer_imp.py --config conformer_an4                  # real speech, two CPU cores
    accelerate launch recipes/conformer_imp.py --config conformer_librispeech
    python recipes/conformer_imp.py --help                                  # every setting

Running the same command again continues a run that was stopped.
"""

import sys
from pathlib import Path

from audio_lottery.cli import run_recipe

if __name__ == "__main__":
    sys.exit(run_recipe(Path(__file__).parent / "configs" / "conformer_mini.yaml"))
