"""One thread, and the number there was put back after every test; the kernels' costs are the same on every machine."""

import pytest
import torch

# Of a stored weight, as measured on a Zen 4 core; a busy machine measures others and then chooses other kernels.
COSTS = {"csr": 1.0, "block16x1": 0.35, "csr_bf16": 0.8, "block16x2_bf16": 0.25, "csr_int8": 0.5, "block16_int8": 0.1}


@pytest.fixture(autouse=True)
def _threads():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _costs(monkeypatch):
    monkeypatch.setattr("audio_lottery.sparse.runtime.matrix.cost", COSTS.__getitem__)
