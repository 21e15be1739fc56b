"""Started twice by accelerate: a search of every family, or of those that are named, on these two processes.

Usage: two_processes.py CORPUS OUT [FAMILY ...]
"""

import sys
from dataclasses import replace
from pathlib import Path

from audio_lottery.config import PruningConfig, SearchConfig
from audio_lottery.lottery.search import search
from tests.lottery.test_backbones import TINY
from tests.lottery.test_methods import settings


def main(corpus: Path, out: Path, families: list[str]) -> None:
    """One pruned round each: every process makes, reads back and compares its masks, or the search stops."""
    for family in families or TINY:
        config = settings(corpus, out / family, PruningConfig(), model=TINY[family], search=SearchConfig(rounds=1))
        search(replace(config, num_processes=2, training=replace(config.training, max_steps=4)))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
