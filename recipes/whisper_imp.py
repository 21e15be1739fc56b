"""Pruning of Whisper round by round, going on from the trained weights with a fresh schedule.

    python recipes/whisper_imp.py --data.root /corpora             # tiny.en, five hours of LibriSpeech, two CPU cores
    accelerate launch recipes/whisper_imp.py --config whisper_small_librispeech
    accelerate launch recipes/whisper_imp.py --config whisper_small_common_voice
    python recipes/whisper_imp.py --help                           # every setting

Running the same command again continues a run that was stopped.
"""

import sys
from pathlib import Path

from audio_lottery.cli import run_recipe

if __name__ == "__main__":
    sys.exit(run_recipe(Path(__file__).parent / "configs" / "whisper_tiny_libri.yaml"))
