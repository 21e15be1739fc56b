"""Iterative magnitude pruning of a CNN-LSTM CTC recogniser (Deep Speech 2), rewinding to θ.

    python recipes/cnn_lstm_imp.py                                         # in minutes, on synthesised speech
    python recipes/cnn_lstm_imp.py --config cnn_lstm_an4                  # real speech, two CPU cores
    accelerate launch recipes/cnn_lstm_imp.py --config cnn_lstm_librispeech
    python recipes/cnn_lstm_imp.py --help                                  # every setting

Running the same command again continues a run that was stopped.
"""

import sys
from pathlib import Path

from audio_lottery.cli import run_recipe

if __name__ == "__main__":
    sys.exit(run_recipe(Path(__file__).parent / "configs" / "cnn_lstm_mini.yaml"))
