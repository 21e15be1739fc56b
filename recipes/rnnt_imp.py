"""Iterative magnitude pruning of an RNN-Transducer (LSTMs, or Parakeet RNN-T and TDT checkpoints), rewinding to θ.

    python recipes/rnnt_imp.py                                         # in minutes, on synthesised speech
    python recipes/rnnt_imp.py --config rnnt_an4                      # real speech, two CPU cores
    accelerate launch recipes/rnnt_imp.py --config rnnt_librispeech
    python recipes/rnnt_imp.py --help                                  # every setting

Running the same command again continues a run that was stopped.
"""

import sys
from pathlib import Path

from audio_lottery.cli import run_recipe

if __name__ == "__main__":
    sys.exit(run_recipe(Path(__file__).parent / "configs" / "rnnt_mini.yaml"))
