"""Getting corpora: downloads that resume, archives that cannot escape, manifests that are made once.

`prepare_corpus` does it all; `download` and `extract` are of use alone.
"""

from audio_lottery.data.fetch.download import download
from audio_lottery.data.fetch.extract import extract
from audio_lottery.data.fetch.prepare import prepare_corpus

__all__ = ["download", "extract", "prepare_corpus"]
