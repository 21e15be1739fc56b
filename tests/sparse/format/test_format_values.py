"""Values: exact ones to the last bit, rounded ones by the stated rule, and never an infinity made in silence."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from audio_lottery.errors import ModelError
from audio_lottery.sparse.format import container
from audio_lottery.sparse.format.tensors import as_bytes
from audio_lottery.sparse.format.values import bits, from_bits, pack, unpack

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int8, torch.bool]


def sparse(shape=(32, 40), density=0.2, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator) * 3
    return torch.where(torch.rand(shape, generator=generator) < density, weight, 0.0).to(dtype)


def through(tensor, values="fp32"):
    packed = container.pack({"w": tensor}, values)
    return container.unpack(packed.data, "file")[0]["w"], packed.entries["w"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(32, 40), (4096,), (16, 4, 3), (8, 4, 3, 3), (3,), (1, 1), ()])
def test_exact_values_keep_every_dtype_and_shape(dtype, shape):
    back, entry = through(sparse(shape, dtype=dtype))
    assert back.dtype == dtype
    assert back.shape == shape
    assert torch.equal(back, sparse(shape, dtype=dtype))
    assert not entry.lossy


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_negative_zero_nan_and_infinity_survive_bit_for_bit(dtype):
    weight = sparse(dtype=dtype)
    weight[0, :6] = torch.tensor([-0.0, float("nan"), float("inf"), -float("inf"), 0.0, -float("nan")])
    if dtype == torch.float32:
        weight.view(torch.int32)[1, 0] = 0x7FC01234  # a NaN with a payload
    back, entry = through(weight)
    assert torch.equal(as_bytes(back), as_bytes(weight))
    assert entry.coding != "dense"


@given(st.lists(st.tuples(st.integers(0, 1023), st.integers(0, 2**32 - 1)), max_size=200))
@settings(max_examples=60, deadline=None)
def test_any_float32_bits_come_back(places):
    raw = np.zeros(1024, np.uint32)
    for place, value in places:
        raw[place] = value
    weight = torch.from_numpy(raw.view(np.float32)).reshape(32, 32)
    assert torch.equal(as_bytes(through(weight)[0]), as_bytes(weight))


@pytest.mark.parametrize(("values", "dtype"), [("fp16", torch.float16), ("bf16", torch.bfloat16)])
@pytest.mark.parametrize("density", [0.1, 1.0])
def test_16_bits_are_the_nearest(values, dtype, density):
    weight = sparse(density=density)
    back, entry = through(weight, values)
    assert torch.equal(back, weight.to(dtype).float())
    assert (entry.stored, entry.dtype, entry.lossy) == (str(dtype).removeprefix("torch."), "float32", True)
    again, same = through(back, values)
    assert torch.equal(again, back)
    assert not same.lossy, "rounding twice changes nothing"


@pytest.mark.parametrize("density", [0.1, 1.0])
def test_int8_is_within_half_a_step_of_each_row(density):
    weight = sparse((16, 8, 5), density) * torch.logspace(-6, 2, 16)[:, None, None]
    weight[3] = 0.0
    back, entry = through(weight, "int8")
    step = weight.reshape(16, -1).abs().amax(dim=1) / 127
    error = (back - weight).reshape(16, -1).abs().amax(dim=1)
    assert (error <= 0.5001 * step).all()
    assert entry.lossy
    largest = weight.reshape(16, -1).abs().amax(dim=1)
    assert torch.allclose(back.reshape(16, -1).abs().amax(dim=1), largest, rtol=1e-6)


@pytest.mark.parametrize("values", ["fp16", "bf16", "int8"])
@pytest.mark.parametrize("tensor", [torch.randn(300), torch.randn(1, 1, 128), torch.arange(12).reshape(3, 4)])
def test_vectors_and_integers_stay_exact(values, tensor):
    back, entry = through(tensor, values)
    assert torch.equal(back, tensor)
    assert not entry.lossy


def test_rounding_makes_negative_zeros_positive_and_prunes_them():
    weight = sparse()
    pruned_by_multiplication = torch.where(weight == 0, -0.0, weight)
    back, entry = through(pruned_by_multiplication, "fp16")
    assert entry.kept == int(torch.count_nonzero(weight))
    assert not torch.signbit(back[weight == 0]).any()


@pytest.mark.parametrize(
    ("values", "bad", "message"),
    [
        ("fp16", 70_000.0, "'w' has weights up to 7e.04, which float16 cannot hold; use values bf16"),
        ("bf16", 3.4e38, "which bfloat16 cannot hold"),
        ("int8", float("nan"), "'w' has weights that are NaN or infinite"),
        ("int8", float("inf"), "'w' has weights that are NaN or infinite"),
        ("fp8", 1.0, "values 'fp8' are unknown; there are fp32, bf16, fp16, int8"),
    ],
)
@pytest.mark.parametrize("also_infinite", [False, True])
def test_what_cannot_be_held_is_refused(values, bad, message, also_infinite):
    weight = sparse()
    weight[2, 3] = bad
    if also_infinite:
        weight[0, 0] = float("inf")
    with pytest.raises(ModelError, match=message):
        through(weight, values)


@pytest.mark.parametrize("values", ["fp16", "bf16"])
def test_infinities_that_were_there_are_kept(values):
    weight = sparse()
    weight[0, 0] = float("inf")
    assert torch.isinf(through(weight, values)[0]).sum() == 1


@given(st.binary(max_size=400), st.sampled_from([1, 2, 4, 8]))
@settings(max_examples=100, deadline=None)
def test_packed_values_come_back(data, itemsize):
    values = np.frombuffer(data[: len(data) // itemsize * itemsize], f"u{itemsize}")
    blob, coded = pack(values)
    assert np.array_equal(unpack(blob, coded, len(values), itemsize), values)


def test_exponents_are_coded_below_their_eight_bits():
    values = bits(torch.randn(50_000, generator=torch.Generator().manual_seed(0)).to(torch.float16))
    blob, coded = pack(values)
    assert 0 < coded < 0.75 * len(values)
    assert len(blob) == coded + len(values)
    with pytest.raises(ModelError, match="do not hold 49999 values"):
        unpack(blob, coded, 49_999, 2)


@pytest.mark.parametrize("dtype", DTYPES)
def test_bits_and_back(dtype):
    tensor = sparse((50,), 0.5, dtype=dtype)
    assert torch.equal(from_bits(bits(tensor), dtype), tensor)
