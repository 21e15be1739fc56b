"""Small layers with zeros, and how outputs are compared."""

from contextlib import contextmanager

import pytest
import torch

from audio_lottery.sparse.kernels.vector import HAS_INT8_DOT

needs_int8 = pytest.mark.skipif(not HAS_INT8_DOT, reason="this CPU has no AVX512-VNNI")
TOLERANCE = {"rtol": 1e-4, "atol": 2e-5}


def pruned(module, density, seed=0):
    """``module`` in eval mode, ``density`` of its matrices' weights kept, some rows and columns empty; seeds torch."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, weight in module.named_parameters():
            if weight.dim() < 2 or "parametrizations" in name or "masked_spec" in name:
                continue
            weight *= torch.rand(weight.shape) < density
            if density < 1:
                weight[torch.rand(weight.shape[0]) < 0.1] = 0
                weight[:, torch.rand(weight.shape[1]) < 0.1] = 0
    return module.eval().requires_grad_(False)


def close(found, expected, **other):
    torch.testing.assert_close(found, expected, **{**TOLERANCE, **other})


@contextmanager
def threads(count):
    """``count`` threads for what is tested; torch's own, which wait by spinning, get one (`conftest`)."""
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(1)
