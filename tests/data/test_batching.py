"""Batches: the budget holds, nothing is lost, order is a function of seed and position, processes share the work."""

from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.data.batching import TrainingBatches, pack
from audio_lottery.errors import ConfigError

DURATIONS = st.lists(st.floats(0.1, 20.0), min_size=1, max_size=60)


@given(DURATIONS, st.floats(20.0, 100.0), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=100, deadline=None)
def test_every_utterance_once_an_epoch_within_the_budget(durations, budget, world_size, epoch):
    shares = [TrainingBatches(durations, budget, 7, rank, world_size).epoch(epoch) for rank in range(world_size)]
    assert len({len(share) for share in shares}) == 1, "every process needs as many batches"
    batches = [batch for share in shares for batch in share]
    assert all(max(durations[i] for i in batch) * len(batch) <= budget for batch in batches)
    assert {i for batch in batches for i in batch} == set(range(len(durations)))
    distinct = {tuple(batch) for batch in batches}
    assert sum(len(batch) for batch in distinct) == len(durations)
    assert len(batches) - len(distinct) < world_size, "only the last step may repeat batches"


@given(DURATIONS, st.integers(0, 40))
@settings(max_examples=50, deadline=None)
def test_resuming_at_a_position_goes_on_where_it_stopped(durations, position):
    batches = TrainingBatches(durations, 40.0, seed=3)
    whole = list(islice(batches.from_position(0), position + 20))
    assert list(islice(batches.from_position(position), 20)) == whole[position:]


def test_order_depends_on_seed_and_epoch_only():
    durations = np.linspace(1, 9, 50)
    assert TrainingBatches(durations, 30, seed=1).epoch(2) == TrainingBatches(durations, 30, seed=1).epoch(2)
    assert TrainingBatches(durations, 30, seed=1).epoch(2) != TrainingBatches(durations, 30, seed=2).epoch(2)
    assert TrainingBatches(durations, 30, seed=1).epoch(2) != TrainingBatches(durations, 30, seed=1).epoch(3)


def test_padding_is_small_because_batches_hold_like_durations():
    durations = np.random.default_rng(0).uniform(1, 15, 2000)
    batches = TrainingBatches(durations, 120, seed=0).epoch(0)
    padded = sum(max(durations[i] for i in batch) * len(batch) for batch in batches)
    assert padded / durations.sum() < 1.1


def test_an_utterance_longer_than_the_budget_is_refused_in_training():
    with pytest.raises(ConfigError, match=r"an utterance of 12\.0 s and max_batch_seconds is 10"):
        TrainingBatches([1.0, 12.0], 10, seed=0)
    with pytest.raises(ConfigError, match=r"an utterance of 18\.0 s as the model pads it and max_batch_seconds is 10"):
        TrainingBatches([1.0, 2.0], 10, seed=0, padded=np.array([18.0, 18.0]))
    assert all(len(batch) == 1 for batch in TrainingBatches([1.0, 2.0], 20, 0, padded=np.array([18.0, 18.0])).epoch(0))


def test_pack_keeps_an_overlong_utterance_alone():
    assert pack([0, 1, 2], np.array([5.0, 50.0, 5.0]), 10) == [[0], [1], [2]]
