"""One random generator an utterance."""

import hashlib
import json

import numpy as np


def utterance_rng(seed: int, name: str, utterance_id: str, epoch: int | None = None) -> np.random.Generator:
    """The random generator of one utterance under one condition.

    Seeded by SHA-256 of the arguments and not by Python's ``hash``, which differs between processes: an utterance meets
    the same noise whatever the order, the batch size, the worker or the round.

    Args:
        seed: the seed of the evaluation or the training.
        name: the suite, or what is drawn.
        utterance_id: as in the manifest.
        epoch: of the training; None where every pass is the same.
    """
    key = json.dumps([seed, name, utterance_id] if epoch is None else [seed, name, utterance_id, epoch]).encode()
    return np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest(), "big"))
