"""A model of six characters, and language models written by hand."""

import itertools
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from audio_lottery.models.characters import build_processor
from audio_lottery.models.wav2vec2 import Wav2Vec2

# Ids: 0 blank, 1 <unk>, 2 |, 3 a, 4 b, 5 c
CHARACTERS = "abc"

# name: log10 probabilities, as in the file and as a table for the literal computation.
UNIGRAMS = {
    "<unk>": (-2.0, 0.0),
    "<s>": (-99.0, -0.3),
    "</s>": (-0.7, 0.0),
    "a": (-0.5, -0.2),
    "ab": (-0.6, -0.1),
    "cab": (-1.2, -0.4),
}
BIGRAMS = {("<s>", "ab"): -0.4, ("a", "ab"): -0.3, ("ab", "</s>"): -0.25, ("cab", "a"): -0.15}


def arpa(unigrams=UNIGRAMS, bigrams=BIGRAMS) -> str:
    lines = ["\\data\\", f"ngram 1={len(unigrams)}", f"ngram 2={len(bigrams)}", "", "\\1-grams:"]
    lines += [f"{probability}\t{word}\t{backoff}" for word, (probability, backoff) in unigrams.items()]
    lines += ["", "\\2-grams:"]
    lines += [f"{probability}\t{' '.join(words)}" for words, probability in bigrams.items()]
    return "\n".join([*lines, "", "\\end\\", ""])


def lm_score(words: list[str]) -> float:
    """log10 P(words </s> | <s>), back-off computed by the definition (Katz 1987)."""
    total, history = 0.0, "<s>"
    for word in [*words, "</s>"]:
        if (history, word) in BIGRAMS:
            total += BIGRAMS[history, word]
        else:
            total += UNIGRAMS[history][1] + UNIGRAMS[word][0]
        history = word
    return total


def label_probabilities(log_probs: np.ndarray, blank: int = 0) -> dict[tuple[int, ...], float]:
    """Probability of every label sequence: the sum over all alignments, one by one (Graves et al. 2006, equation 3)."""
    probabilities: dict[tuple[int, ...], float] = defaultdict(float)
    frames, characters = log_probs.shape
    for path in itertools.product(range(characters), repeat=frames):
        labels = tuple(label for label, _ in itertools.groupby(path) if label != blank)
        probabilities[labels] += float(np.exp(sum(log_probs[t, label] for t, label in enumerate(path))))
    return dict(probabilities)


@pytest.fixture(scope="session")
def backbone():
    """What decoders read of a backbone, without a network."""
    backbone = Wav2Vec2(torch.nn.Identity(), build_processor(CHARACTERS))
    backbone.frame_seconds = 0.02
    return backbone


@pytest.fixture
def lm(tmp_path: Path) -> Path:
    path = tmp_path / "lm.arpa"
    path.write_text(arpa())
    return path


def random_logits(seed: int, frames: int, characters: int = 6, batch: int = 1, scale: float = 2.0) -> torch.Tensor:
    return scale * torch.randn(batch, frames, characters, generator=torch.Generator().manual_seed(seed))
