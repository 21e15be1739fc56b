"""Second-order pruning: inputs that are summed right, a solver equal to its literal form, outputs that stay closer."""

import numpy as np
import pytest
import torch
from torch import nn

from audio_lottery import pruning
from audio_lottery.errors import MaskError
from audio_lottery.pruning import Mask, ScoreInputs
from audio_lottery.pruning.grams import inverses
from audio_lottery.pruning.second_order import _rebuild


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


def literal(weights: np.ndarray, kept: np.ndarray, hessian: np.ndarray) -> np.ndarray:
    """Row by row and input by input, each time with the inverse of what is left of H."""
    made = weights.copy()
    for row, keep in zip(made, kept, strict=True):
        for column in range(len(row)):
            if not keep[column]:
                inverse = np.linalg.inv(hessian[column:, column:])
                row[column:] -= row[column] / inverse[0, 0] * inverse[:, 0]
                row[column] = 0.0
    return made


@pytest.mark.parametrize("size", [5, 40, 300])  # 300: three blocks of inputs
def test_the_solver_does_what_its_literal_form_does(size):
    torch.manual_seed(size)
    layer = nn.Linear(size, 7)
    weight = layer.weight.detach()
    found = collected(layer, [inputs((4 * size, size))])
    kept = pruning.prune(layer, 0.4, score="obs", score_inputs=found)["weight"]
    gram = found.grams["weight"]
    [(inverse, _)] = inverses("weight", gram, weight.shape)
    damped = (gram + 0.01 * gram.diagonal().mean() * torch.eye(size)).double().numpy()
    expected = literal(weight.double().numpy(), kept.numpy(), damped)
    assert np.abs(_rebuild(inverse, weight, kept).numpy() - expected).max() < 1e-4 * np.abs(expected).max()


def test_scores_are_what_is_lost_when_all_others_may_move():
    torch.manual_seed(0)
    layer, x = nn.Linear(6, 3, bias=False), inputs((50, 6)).double()
    found = collected(layer, [x.float()])
    gram = (x.T @ x).numpy()
    damped = gram + 0.01 * gram.diagonal().mean() * np.eye(6)
    scores = pruning.SCORES["obs"].function({"weight": layer.weight.detach()}, None, found)["weight"]
    for row, weights in enumerate(layer.weight.detach().double().numpy()):
        for gone in range(6):
            rest = [column for column in range(6) if column != gone]
            # the least squares of moving the others, with the same damping
            moved = np.linalg.solve(damped[np.ix_(rest, rest)], damped[rest, gone] * weights[gone])
            change = np.zeros(6)
            change[gone], change[rest] = -weights[gone], moved
            assert float(scores[row, gone]) == pytest.approx(change @ damped @ change, rel=1e-3)


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
        ({"weight": -torch.ones(8, 8)}, "cannot be told apart"),
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


def test_factors_are_of_the_damped_matrix():
    x = inputs((40, 5)).double()
    gram = (x.T @ x).float()
    [(inverse, dead)] = inverses("weight", gram, (3, 5))
    damped = gram + 0.01 * gram.diagonal().mean() * torch.eye(5)
    assert torch.allclose(inverse @ damped, torch.eye(5), atol=1e-4)
    assert not dead.any()
