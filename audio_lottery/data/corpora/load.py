"""From the corpora a configuration names to one manifest."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from audio_lottery.config import CorpusConfig
from audio_lottery.data.corpora import read_corpus
from audio_lottery.data.corpora.mini import MINI, prepare_mini
from audio_lottery.errors import CorpusError


def load_manifest(corpora: Sequence[CorpusConfig], root: Path) -> Dataset:
    """Read several splits and join them.

    Args:
        corpora: the splits; mini corpora are made on first use.
        root: folder that relative corpus paths start from.

    Raises:
        CorpusError: a corpus is missing or damaged, or two splits share an utterance id.
    """
    manifest = concatenate_datasets([_load_one(corpus, root) for corpus in corpora])
    ids = manifest["id"]
    if len(set(ids)) != len(ids):
        raise CorpusError(
            f"{', '.join(f'{c.corpus} {c.split}' for c in corpora)} share utterance ids; name each split once"
        )
    return manifest


def _load_one(corpus: CorpusConfig, root: Path) -> Dataset:
    if corpus.corpus in MINI:
        reader, attribute = MINI[corpus.corpus]
        folder = Path(getattr(prepare_mini(), attribute))
    else:
        reader, folder = corpus.corpus, root / Path(corpus.path).expanduser()
    manifest = read_corpus(reader, folder, corpus.split)
    if corpus.limit is not None and corpus.limit < len(manifest):
        if corpus.limit < 1:
            raise CorpusError(f"{corpus.corpus} {corpus.split}: limit is {corpus.limit}; it must be 1 or more")
        manifest = manifest.select(np.linspace(0, len(manifest) - 1, corpus.limit).round().astype(int))
    return manifest
