"""Started twice by accelerate: a search of every family on these two processes.

Usage: two_processes.py CORPUS OUT
"""

import sys
from dataclasses import replace
from pathlib import Path

from audio_lottery.config import PruningConfig, SearchConfig
from audio_lottery.lottery.search import search
from tests.lottery.test_backbones import TINY
from tests.lottery.test_methods import settings


def main(corpus: Path, out: Path) -> None:
    """One pruned round each: every process makes, reads back and compares its masks, or the search stops."""
    for family, model in TINY.items():
        config = settings(corpus, out / family, PruningConfig(), model=model, search=SearchConfig(rounds=1))
        search(replace(config, num_processes=2, training=replace(config.training, max_steps=4)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
