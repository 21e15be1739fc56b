"""Complex weights rank by magnitude; weights that no mask can hold are left out, or refused by name."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing._internal.two_tensor import TwoTensor

from audio_lottery.errors import MaskError
from audio_lottery.pruning import (
    Enforcer,
    Mask,
    MovementAccumulator,
    apply,
    check,
    clear_state,
    collect,
    enforce,
    find_scope,
    prune,
)
from audio_lottery.pruning.distributed import full_parameters, shard_mask

COMPLEX = [torch.complex64, torch.complex128]
ONES = Mask({"0.weight": torch.ones(4, 4, dtype=torch.bool)})


def complex_model(dtype: torch.dtype) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8, dtype=dtype), nn.Linear(8, 4, dtype=dtype))
    with torch.no_grad():
        model[0].weight.real *= 0.01  # the real part alone would choose others
    return model


@pytest.mark.parametrize("score", ["magnitude", "lamp"])
@pytest.mark.parametrize("pattern", ["unstructured", "block:1x4", "nm:2:4", "rows"])
@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_weights_are_pruned_as_their_magnitudes_are(dtype, pattern, score):
    model = complex_model(dtype)
    magnitudes = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    for position in range(2):
        magnitudes[position].weight.data = model[position].weight.detach().abs().float()
    mask = prune(model, 0.5, pattern=pattern, score=score)
    assert mask == prune(magnitudes, 0.5, pattern=pattern, score=score)


@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_weights_keep_the_largest_and_hold_their_zeros(dtype):
    model = complex_model(dtype)
    mask = prune(model, 0.25, among=find_scope(model, [r"^0\."]))
    weight = model[0].weight.detach().clone()
    assert weight.abs()[mask["0.weight"]].min() > weight.abs()[~mask["0.weight"]].max()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.1)
    with pytest.raises(MaskError, match=r"0\.weight \(48\)"):
        check(mask, model)
    with enforce(mask, model, optimizer) as handle:
        assert torch.equal(model[0].weight, weight * mask["0.weight"])
        for _ in range(2):
            model(torch.randn(5, 8, dtype=dtype)).abs().square().sum().backward()
            assert not model[0].weight.grad[~mask["0.weight"]].any()
            optimizer.step()
            optimizer.zero_grad()
            check(mask, model)
        handle.update(prune(model, 0.125, among=mask))
        clear_state(handle.mask, model, optimizer)
        moments = optimizer.state[model[0].weight]["exp_avg"]
        assert not moments[~handle.mask["0.weight"]].any()
        assert moments[handle.mask["0.weight"]].all()


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("bad", [complex("nan"), complex(0, float("inf"))])
def test_complex_weights_that_are_not_finite_are_named(dtype, bad):
    model = complex_model(dtype)
    with torch.no_grad():
        model[1].weight[0, 0] = bad
    with pytest.raises(MaskError, match=r"'1\.weight' has weights or scores that are NaN or infinite"):
        prune(model, 0.5)


def test_evidence_of_complex_weights_is_refused():
    model = complex_model(torch.complex64)
    line = r"'0\.weight' is torch\.complex64, and scores look at real weights only; .* magnitude, lamp or random"
    with pytest.raises(MaskError, match=line):
        collect(model, ["0.weight"], [torch.randn(2, 8, dtype=torch.complex64)], loss=lambda m, b: m(b).abs().sum())
    with pytest.raises(MaskError, match=line):
        MovementAccumulator(model, ["0.weight"], torch.optim.SGD(model.parameters(), lr=0.1))


def test_weights_that_float32_cannot_rank_are_named():
    model = nn.Sequential(nn.Linear(4, 4, dtype=torch.float64))
    model[0].weight.data[0, 0] = 1e300
    with pytest.raises(
        MaskError, match=r"^'0\.weight' has weights beyond the range of float32, in which they are ranked"
    ):
        prune(model, 0.5)


def holding(weight: Tensor) -> nn.Module:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].weight = nn.Parameter(weight, requires_grad=False)
    return model


UNMASKABLE = {
    "int8": (
        lambda: torch.ones(4, 4, dtype=torch.int8),
        "stored as torch.int8; masks are for floats of 16 bits and more",
    ),
    "uint8": (
        lambda: torch.ones(4, 4, dtype=torch.uint8),
        "stored as torch.uint8; masks are for floats of 16 bits and more",
    ),
    "bool": (
        lambda: torch.ones(4, 4, dtype=torch.bool),
        "stored as torch.bool; masks are for floats of 16 bits and more",
    ),
    "float8": (
        lambda: torch.ones(4, 4).to(torch.float8_e4m3fn),
        "stored as torch.float8_e4m3fn; masks are for floats of 16 bits and more",
    ),
    "float8 without zero": (
        lambda: torch.ones(4, 4).to(torch.float8_e8m0fnu),
        "stored as torch.float8_e8m0fnu; masks are for floats of 16 bits and more",
    ),
    "csr": (lambda: torch.eye(4).to_sparse_csr(), "stored as torch.sparse_csr; masks are for dense tensors"),
    "coo": (lambda: torch.eye(4).to_sparse(), "stored as torch.sparse_coo; masks are for dense tensors"),
    "subclass": (
        lambda: TwoTensor(torch.ones(4, 4), torch.ones(4, 4)),
        "stored as TwoTensor; masks are for plain tensors",
    ),
}


@pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
@pytest.mark.parametrize("kind", UNMASKABLE)
def test_weights_that_no_mask_can_hold_are_left_out_and_refused_by_name(kind):
    weight, reason = UNMASKABLE[kind]
    model = holding(weight())
    scope = find_scope(model)
    assert scope.names == ["1.weight"]
    assert scope.left_out["0.weight"] == reason
    assert list(prune(model, 0.5)) == ["1.weight"]
    with pytest.raises(MaskError, match=rf"^'0\.weight' is {reason}$"):
        Mask.dense(model, ["0.weight"])
    for action in (apply, check, Enforcer, shard_mask):
        with pytest.raises(MaskError, match=rf"^the mask does not fit the model: '0\.weight' is {reason}$"):
            action(ONES, model)
    with pytest.raises(MaskError, match=rf"'0\.weight' is {reason}"):
        prune(model, 0.5, among=ONES)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, *COMPLEX])
def test_floats_are_prunable(dtype):
    model = nn.Sequential(nn.Linear(4, 4, dtype=dtype))
    mask = prune(model, 0.25)
    apply(mask, model)
    check(mask, model)
    assert int(model[0].weight.ne(0).sum()) == mask.kept == 4


LAZY = r"'0\.weight' is without a shape so far \(a lazy module\); run one batch through the model first$"


@pytest.mark.parametrize("make", [lambda: nn.LazyLinear(4), lambda: nn.LazyConv1d(4, 3), lambda: nn.LazyConv2d(4, 3)])
def test_lazy_modules_are_refused_until_they_have_shapes_unless_they_are_left_out(make):
    model = nn.Sequential(make(), nn.Linear(4, 4))
    mask = Mask({"0.weight": torch.ones(4, 4, dtype=torch.bool)})
    for action in (
        lambda: find_scope(model),
        lambda: prune(model, 0.5),
        lambda: Mask.dense(model, ["0.weight"]),
        lambda: apply(mask, model),
        lambda: check(mask, model),
    ):
        with pytest.raises(MaskError, match=LAZY):
            action()
    scope = find_scope(model, exclude=[r"^0\."])
    assert scope.names == ["1.weight"]
    assert scope.left_out["0.weight"] == r"excluded by '^0\.'"


def test_a_lazy_module_is_prunable_once_it_ran():
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 4))
    model(torch.randn(2, 8))
    assert prune(model, 0.5).per_tensor()["0.weight"][1] == 32


def test_a_meta_model_has_a_scope_and_nothing_to_rank_or_hold():
    model = nn.Sequential(nn.Linear(4, 4, device="meta"), nn.Linear(4, 4, device="meta"))
    assert find_scope(model).names == ["0.weight", "1.weight"]
    assert Mask.dense(model, ["0.weight"]) == ONES
    ONES.check_fits(model)
    for action in (
        lambda: prune(model, 0.5, among=find_scope(model, ["^0"])),
        lambda: prune(model, 0.5, among=ONES),
        lambda: apply(ONES, model),  # which would do nothing, silently
        lambda: check(ONES, model),
        lambda: Enforcer(ONES, model),
        lambda: list(full_parameters(model, ["0.weight"])),
        lambda: collect(model, ["0.weight"], [torch.ones(1, 4)], loss=lambda m, b: m(b).sum()),
    ):
        with pytest.raises(MaskError, match=r"^0\.weight: on the meta device, which has shapes and no values"):
            action()
    with pytest.raises(MaskError, match=r"mask of 'w' is on the meta device"):
        Mask({"w": torch.ones(2, dtype=torch.bool, device="meta")})
