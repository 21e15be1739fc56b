"""From the corpora a configuration names to one manifest."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset, concatenate_datasets

from audio_lottery.config import CorpusConfig
from audio_lottery.data.corpora import read_corpus
from audio_lottery.data.corpora.mini import MINI, prepare_mini
from audio_lottery.data.corpora.prepared import load_prepared
from audio_lottery.data.manifest import Utterance, build_manifest, check_unique_ids, iterate
from audio_lottery.data.text import get_normalizer
from audio_lottery.errors import CorpusError


def load_manifest(corpora: Sequence[CorpusConfig], root: Path) -> Dataset:
    """Read several splits and join them; the result is memory-mapped, whatever its length.

    Args:
        corpora: the splits; mini corpora are made on first use.
        root: folder that relative corpus paths start from.

    Raises:
        CorpusError: a corpus is missing or damaged, or two splits share an utterance id.
    """
    manifest = concatenate_datasets([_load_one(corpus, root) for corpus in corpora])
    if len(corpora) > 1:  # within one split, ids are unique already
        names = ", ".join(f"{c.corpus} {c.split}" for c in corpora)
        check_unique_ids(manifest, lambda identity: f"{names} share utterance ids ('{identity}'); name each split once")
    return manifest


def _load_one(corpus: CorpusConfig, root: Path) -> Dataset:
    manifest = _read(corpus, root)
    if corpus.limit is not None and corpus.limit < len(manifest):
        if corpus.limit < 1:
            raise CorpusError(f"{corpus.corpus} {corpus.split}: limit is {corpus.limit}; it must be 1 or more")
        manifest = manifest.select(np.linspace(0, len(manifest) - 1, corpus.limit).round().astype(int))
    if corpus.text is not None:
        manifest = build_manifest(_normalized(manifest, corpus.text), f"{corpus.corpus}/{corpus.split}")
    return manifest


def _read(corpus: CorpusConfig, root: Path) -> Dataset:
    if corpus.corpus == "hub":
        from audio_lottery.data.corpora.hub import load_hub

        return load_hub(corpus, root)
    if corpus.corpus in MINI:
        reader, attribute = MINI[corpus.corpus]
        return read_corpus(reader, Path(getattr(prepare_mini(), attribute)), corpus.split)
    folder = root / Path(corpus.path).expanduser()
    if corpus.corpus == "prepared":
        return load_prepared(folder, corpus.split)
    return read_corpus(corpus.corpus, folder, corpus.split)


def _normalized(manifest: Dataset, text: str) -> Iterator[Utterance]:
    normalize = get_normalizer(text)
    for row in iterate(manifest):
        yield replace(row, text=normalize(row.text))
