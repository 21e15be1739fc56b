"""Second-order pruning: inputs that are summed right, a solver equal to its literal form, outputs that stay closer."""

import copy
import dataclasses
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from audio_lottery import pruning
from audio_lottery.errors import MaskError
from audio_lottery.pruning import Mask, ScoreInputs
from audio_lottery.pruning.grams import damped


def inputs(shape, seed=0):
    """Inputs that have something in common, as those of layers do."""
    generator = torch.Generator().manual_seed(seed)
    mixed = torch.randn(*shape, generator=generator)
    return mixed + mixed.roll(1, -1) + 0.5 * mixed.mean(-1, keepdim=True)


def collected(model, batches) -> ScoreInputs:
    names = pruning.find_scope(model).names
    run = lambda module, batch: _sum(module(batch))  # noqa: E731
    return pruning.collect(model, names, batches, loss=run, activations=True, saliency=False, grams=True)


def _sum(output):
    return (output[0] if isinstance(output, tuple) else output).sum()


def least_squares(weights: np.ndarray, kept: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Row by row, the kept weights whose outputs are nearest to those of all, in float64."""
    made = np.zeros_like(weights)
    for row, keep, out in zip(weights, kept, made, strict=True):
        out[keep] = np.linalg.solve(hessian[np.ix_(keep, keep)], hessian[keep] @ row)
    return made


def damped_hessian(x: torch.Tensor) -> np.ndarray:
    gram = (x.T @ x).double().numpy()
    return gram + 0.01 * gram.diagonal().mean() * np.eye(len(gram))


@pytest.mark.parametrize("size", [5, 40, 300])
def test_weights_are_those_of_least_squares(size):
    torch.manual_seed(size)
    layer, x = nn.Linear(size, 7), inputs((4 * size, size))
    weight = layer.weight.detach().clone()
    found = collected(layer, [x])
    mask = pruning.prune(layer, 0.4, score="obs", score_inputs=found)
    hessian = damped_hessian(x.double())
    expected = least_squares(weight.double().numpy(), mask["weight"].numpy(), hessian)
    grams = damped("weight", found.grams["weight"], weight.shape)
    [exact] = grams.move(*(grams.split(one) for one in (weight, weight, mask["weight"])), steps=3 * size).numpy()
    assert np.abs(exact - expected).max() < 1e-4 * np.abs(expected).max()
    # the steps that `reconstruct` takes come as near as anyone could tell by the outputs
    pruning.reconstruct(layer, mask, found)
    change, best = (one - weight.double().numpy() for one in (layer.weight.detach().double().numpy(), expected))
    assert np.sum(change @ hessian * change) <= 1.01 * np.sum(best @ hessian * best)


def test_no_step_takes_outputs_further_away():
    torch.manual_seed(6)
    x, weight = inputs((90, 30)), torch.randn(1, 5, 30)
    grams = damped("weight", x.T @ x, (5, 30))
    kept = torch.rand(1, 5, 30) < 0.4
    kept[0, 0], kept[0, 1] = False, True  # nothing left to move, and nothing to make up for
    hessian = torch.from_numpy(damped_hessian(x.double()))
    losses = []
    for steps in range(12):
        change = (grams.move(weight, weight, kept, steps) - weight).double()
        losses.append((change @ hessian * change).sum(2))
    for before, after in pairwise(losses):
        assert bool((after <= before * 1.00001 + 1e-6).all())
    assert torch.equal(grams.move(weight, weight, kept, 12)[0, :2], torch.stack([torch.zeros(30), weight[0, 1]]))


def test_weights_go_in_stages_and_the_others_make_up_for_them():
    """Beside the same in numpy, with exact least squares: rows of four weights, which four steps solve."""
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 10, bias=False), inputs((50, 4)).double()
    found = collected(layer, [x.float()])
    weights, hessian = layer.weight.detach().double().numpy(), damped_hessian(x)
    powers = (x.T @ x).diagonal().numpy()
    expected, made, below = np.zeros_like(weights), weights, 0.0
    kept = np.ones_like(weights, dtype=bool)
    while True:
        losses = made**2 * powers
        expected[kept] = below + losses[kept]
        staying = int(0.85 * kept.sum())
        if staying < 0.1 * kept.size or staying == kept.sum():
            break
        cut = np.sort(losses[kept])[kept.sum() - staying - 1]
        below += cut
        kept &= losses > cut
        made = least_squares(weights, kept, hessian)
    scores = pruning.SCORES["obs"].function({"weight": layer.weight.detach()}, None, found)["weight"]
    assert scores.numpy() == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("layer", "shape", "windows", "each"),
    [
        (nn.Conv1d(2, 3, 3, stride=2), (1, 2, 20_001), (10_000, 1), 3),
        (nn.Conv2d(1, 3, 3), (1, 1, 702, 12), (700, 10), 2),  # every second frame, at all frequencies
    ],
)
def test_of_many_windows_some_stand_for_all(layer, shape, windows, each):
    x = inputs(shape, 11)
    image = x if x.ndim == 4 else x.unsqueeze(2)
    kernel, stride = ((3, 3), 1) if x.ndim == 4 else ((1, 3), (1, 2))
    columns = nn.functional.unfold(image, kernel, stride=stride)[0].T.reshape(*windows, -1)
    seen = columns[::each].flatten(0, 1)
    expected = seen.T @ seen * (windows[0] / len(columns[::each]))
    torch.testing.assert_close(collected(layer, [x, x]).grams["weight"], 2 * expected, rtol=1e-4, atol=1e-2)


def test_sums_over_many_batches_are_those_over_all_rows():
    """More batches than are added up in float32, and one longer than is multiplied at once."""
    torch.manual_seed(12)
    layer, sizes = nn.Linear(5, 2), [30] * 37 + [9000]
    batches = [inputs((size, 5), seed) for seed, size in enumerate(sizes)]
    rows = torch.cat(batches).double()
    found = collected(layer, batches).grams["weight"]
    torch.testing.assert_close(found.double(), rows.T @ rows, rtol=1e-5, atol=1e-2)


def test_scores_start_from_the_mask_so_far():
    torch.manual_seed(7)
    layer = nn.Linear(24, 12)
    found = collected(layer, [inputs((100, 24))])
    among = pruning.prune(layer, 0.5, score="obs", score_inputs=found)
    pruning.reconstruct(layer, among, found)
    scores = pruning.SCORES["obs"].function({"weight": layer.weight.detach()}, among, found)["weight"]
    assert bool((scores[among["weight"]] > 0).all())
    assert not scores[~among["weight"]].any()


@pytest.mark.parametrize("density", [0.9, 0.5, 0.23, 0.05])
@pytest.mark.parametrize("allocation", ["uniform", "erk"])
def test_stages_that_no_mask_can_tell_are_left_out(allocation, density):
    torch.manual_seed(13)
    model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 50))
    found = collected(model, [inputs((300, 40))])
    seen = []

    def whole(weights, among, score_inputs):
        seen.append(score_inputs.wanted)
        return pruning.SCORES["obs"].function(weights, among, dataclasses.replace(score_inputs, wanted=None))

    masks = [
        pruning.prune(model, density, score=score, allocation=allocation, score_inputs=found)
        for score in ("obs", whole)
    ]
    assert masks[0].sha256() == masks[1].sha256()
    assert seen == [{name: kept for name, (kept, _) in masks[0].per_tensor().items()}]


@pytest.mark.parametrize("other", ["magnitude", "wanda"])
def test_the_mask_that_is_made_for_it_reconstructs_best(other):
    torch.manual_seed(8)
    layer = nn.Linear(64, 32)
    found = collected(layer, [inputs((400, 64))])
    errors = {}
    for score in ("obs", other):
        mask, copied = pruning.prune(layer, 0.4, score=score, score_inputs=found), copy.deepcopy(layer)
        errors[score] = pruning.reconstruct(copied, mask, found)["weight"].rebuilt
    assert errors["obs"] < 0.8 * errors[other]


LAYERS = {
    "linear": (lambda: nn.Linear(24, 12), (3, 40, 24)),
    "convolution": (lambda: nn.Conv1d(8, 12, 3, stride=2, dilation=2, padding=2), (3, 8, 41)),
    "grouped": (lambda: nn.Conv1d(8, 12, 3, groups=4), (3, 8, 41)),
    "depthwise": (lambda: nn.Conv1d(8, 8, 5, groups=8, padding=2, padding_mode="reflect"), (3, 8, 41)),
    "two dimensions": (lambda: nn.Conv2d(2, 6, (3, 2), stride=(2, 1)), (3, 2, 15, 11)),
    "lstm": (lambda: nn.LSTM(10, 8, num_layers=2, bidirectional=True, batch_first=True), (3, 25, 10)),
    "gru": (lambda: nn.GRU(10, 8), (25, 3, 10)),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_diagonals_are_the_norms_of_the_inputs(kind):
    torch.manual_seed(1)
    make, shape = LAYERS[kind]
    found = collected(make().eval(), [inputs(shape, 1), inputs(shape, 2)])
    for name, gram in found.grams.items():
        norms = found.activations[name]
        diagonal = gram.diagonal(dim1=-2, dim2=-1)
        if gram.ndim == 3:
            diagonal = diagonal.repeat_interleave(len(norms) // len(diagonal), 0)
        assert torch.allclose(diagonal.sqrt(), norms, rtol=1e-4, atol=1e-4), name
        assert torch.allclose(gram, gram.transpose(-1, -2), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("pattern", ["unstructured", "block:1x2", "rows", "nm:2:4"])
@pytest.mark.parametrize("kind", LAYERS)
def test_outputs_stay_closer_than_under_the_mask_alone(kind, pattern):
    torch.manual_seed(2)
    make, shape = LAYERS[kind]
    layer = make().eval()
    sizes = {tuple(weight.shape) for name, weight in layer.named_parameters() if name.startswith("weight")}
    if pattern == "nm:2:4" and any(np.prod(size[1:]) % 4 for size in sizes):
        pytest.skip("2:4 does not divide its inputs")
    if pattern == "block:1x2" and any(np.prod(size[1:]) % 2 for size in sizes):
        pytest.skip("1×2 does not divide its inputs")
    x = [inputs(shape, 3), inputs(shape, 4)]
    found = collected(layer, x)
    mask = pruning.prune(layer, 0.5, score="obs", pattern=pattern, score_inputs=found)
    with torch.no_grad():
        dense = [_first(layer(one)) for one in x]
    report = pruning.reconstruct(layer, mask, found)
    for name, kept in mask.items():
        assert not layer.get_parameter(name)[~kept].any()
    if pattern == "rows":  # of a row that is gone nothing is left to move, and the others had no loss
        assert all(one.rebuilt == pytest.approx(one.masked) for one in report.values())
        return
    assert all(one.rebuilt <= one.masked * 1.0001 for one in report.values())
    assert sum(one.rebuilt for one in report.values()) < sum(one.masked for one in report.values())
    if kind in ("linear", "convolution", "grouped", "two dimensions"):  # the figure is that of the outputs themselves
        with torch.no_grad():
            bias = layer.bias.reshape(-1, *(1,) * (dense[0].ndim - 2)) if kind != "linear" else layer.bias
            lost = sum(float((_first(layer(one)) - was).square().sum()) for one, was in zip(x, dense, strict=True))
            whole = sum(float((was - bias).square().sum()) for was in dense)
        assert report["weight"].rebuilt == pytest.approx(lost / whole, rel=1e-3)


def _first(output):
    return output[0] if isinstance(output, tuple) else output


def test_dead_inputs_lose_first_and_disturb_nothing():
    torch.manual_seed(3)
    layer, x = nn.Linear(8, 4), inputs((60, 8))
    x[:, [2, 5]] = 0.0
    found = collected(layer, [x])
    mask = pruning.prune(layer, 0.75, score="obs", score_inputs=found)
    assert not mask["weight"][:, [2, 5]].any()
    before = layer.weight.detach().clone()
    pruning.reconstruct(layer, mask, found)
    live = [0, 1, 3, 4, 6, 7]
    assert torch.equal(layer.weight[:, live], before[:, live]), "what multiplied zeros is no loss"


def test_inputs_that_repeat_each_other_are_damped():
    torch.manual_seed(4)
    layer, x = nn.Linear(8, 4), inputs((60, 8))
    x[:, 1] = x[:, 0]
    found = collected(layer, [x])
    mask = Mask({"weight": torch.ones(4, 8, dtype=torch.bool)})
    mask["weight"][:, 0] = False  # its twin takes over
    report = pruning.reconstruct(layer, mask, found)["weight"]
    assert report.rebuilt < 0.01 * report.masked


@pytest.mark.parametrize(
    ("grams", "message"),
    [
        (None, r"lacks 'weight'; make it with pruning\.collect\(\.\.\., grams=True\)"),
        ({"weight": torch.eye(3)}, r"is \(3, 3\); the weight is a matrix of \(4, 8\), whose 8 inputs"),
        ({"weight": torch.full((8, 8), torch.nan)}, "NaN or infinite"),
        ({"weight": -torch.ones(8, 8)}, "has a negative diagonal"),
    ],
)
def test_what_does_not_fit_is_one_line(grams, message):
    layer = nn.Linear(8, 4)
    mask = pruning.prune(layer, 0.5)
    before = layer.weight.detach().clone()
    with pytest.raises(MaskError, match=message):
        pruning.reconstruct(layer, mask, ScoreInputs(grams=grams))
    assert torch.equal(layer.weight, before)


def test_too_many_inputs_are_refused_before_memory_is():
    layer = nn.Linear(9000, 2)
    with pytest.raises(MaskError, match=r"9000 inputs has 0\.6 GB of products of pairs; leave it out of the scope"):
        collected(layer, [torch.randn(2, 9000)])
