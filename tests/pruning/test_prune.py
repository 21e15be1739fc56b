"""Every score x pattern x allocation: exact counts, masks only shrink, no layer dies; and torch as the judge."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import prune as torch_prune

from audio_lottery.errors import MaskError
from audio_lottery.pruning import SCORES, Mask, Rule, ScoreInputs, exact_count, find_scope, parse_pattern, prune
from audio_lottery.pruning.patterns import NofM

SCORE_NAMES = list(SCORES)
ALLOCATION_NAMES = ["global", "uniform", "uniform_plus", "erk"]
# pattern -> densities of two rounds
PATTERNS = {
    "unstructured": (0.41, 0.13),
    "block:1x4": (0.41, 0.13),
    "block:4x1": (0.41, 0.13),
    "block:16x1": (0.5, 0.3),
    "block:8x8": (0.6, 0.4),
    "rows": (0.5, 0.3),
    "columns": (0.5, 0.3),
}
CONVOLUTIONS = {"channels": (0.6, 0.4)}


class Wav2Vec2(nn.Module):
    """Every prunable kind, with a one-weight layer and scales that differ between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.front = nn.Conv1d(1, 16, 4)
        self.image = nn.Conv2d(4, 8, 3)
        self.lstm = nn.LSTM(16, 8)
        self.linear = nn.Linear(24, 32)
        self.tiny = nn.Linear(1, 1)
        self.head = nn.Linear(32, 12)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    built = Wav2Vec2()
    with torch.no_grad():
        built.linear.weight *= 0.05  # a global ranking would empty it at low densities
        built.tiny.weight.fill_(1e-6)
        built.head.weight[0] = 0.0
        built.head.weight[1] = built.head.weight[2]  # ties
    return built


@pytest.fixture(scope="module")
def score_inputs(model) -> ScoreInputs:
    generator = torch.Generator().manual_seed(1)
    weights = {name: dict(model.named_parameters())[name] for name in find_scope(model).names}
    return ScoreInputs(
        activations={n: torch.rand(w[0].numel(), generator=generator) for n, w in weights.items()},
        saliency={n: torch.rand(w.shape, generator=generator) for n, w in weights.items()},
        movement={n: torch.randn(w.shape, generator=generator) for n, w in weights.items()},
        grams={n: torch.diag(1 + torch.rand(w[0].numel(), generator=generator)) for n, w in weights.items()},
    )


def groups_kept(pattern, mask: Mask) -> tuple[int, int]:
    whole = [pattern.whole(name, tensor) for name, tensor in mask.items()]
    return sum(int(w.sum()) for w in whole), sum(w.numel() for w in whole)


@pytest.mark.parametrize("allocation", ALLOCATION_NAMES)
@pytest.mark.parametrize(("spec", "densities"), (PATTERNS | CONVOLUTIONS).items())
@pytest.mark.parametrize("score", SCORE_NAMES)
def test_every_combination(model, score_inputs, score, spec, densities, allocation):
    include = (r"^(front|image)\.",) if spec in CONVOLUTIONS else (".*",)
    if spec in ("block:16x1", "block:8x8"):
        include = (r"^(front|lstm|linear)\.",)
    settings_ = {
        "score": score,
        "pattern": spec,
        "allocation": allocation,
        "score_inputs": replace(score_inputs, seed=3),
    }
    scope = find_scope(model, include)
    names = scope.names
    parameters = dict(model.named_parameters())
    before = {name: parameters[name].detach().clone() for name in names}
    largest = max(int(np.max(parse_pattern(spec).sizes(parameters[name].shape))) for name in names)
    so_far = None
    for density in densities:
        mask = prune(model, density, among=so_far or scope, **settings_)
        assert list(mask) == names
        asked = exact_count(density, mask.prunable)
        if spec == "unstructured":
            assert mask.kept == asked
        else:
            slack = largest / 2 if allocation == "global" else largest / 2 * len(names)
            assert abs(mask.kept - asked) <= slack
            groups_kept(parse_pattern(spec), mask)  # refuses torn groups
        assert all(kept >= 1 for kept, _ in mask.per_tensor().values())
        assert so_far is None or mask.is_subset_of(so_far)
        assert mask == prune(model, density, among=so_far or scope, **settings_)
        so_far = mask
    assert all(torch.equal(parameters[name], before[name]) for name in names)


@pytest.mark.parametrize("score", SCORE_NAMES)
def test_n_of_m_over_a_denser_n_of_m(model, score_inputs, score):
    scope = find_scope(model, (r"^(front|image|lstm|linear|head)\.",))
    first = prune(model, 0.5, score=score, pattern="nm:2:4", among=scope, score_inputs=score_inputs)
    second = prune(
        model, 0.25, score=score, pattern="nm:1:4", allocation="uniform", among=first, score_inputs=score_inputs
    )
    for mask, n in ((first, 2), (second, 1)):
        assert all(set(tensor.reshape(-1, 4).sum(dim=1).tolist()) == {n} for tensor in mask.values())
    assert second.is_subset_of(first)


@given(st.integers(0, 100), st.floats(0.02, 1.0), st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1))
@settings(max_examples=50, deadline=None)
def test_equals_torch_wherever_no_layer_would_die(seed, density, shapes):
    torch.manual_seed(seed)
    network = nn.ModuleList([nn.Linear(a, b) for a, b in shapes[:4]])
    n = sum(layer.weight.numel() for layer in network)
    keep = math.floor(density * n + 0.5)
    layers = [(layer, "weight") for layer in network]
    if keep < len(layers):
        return
    mask = prune(network, density)
    torch_prune.global_unstructured(layers, pruning_method=torch_prune.L1Unstructured, amount=n - keep)
    theirs = [layer.weight_mask.bool() for layer in network]
    assert mask.kept == keep
    if all(tensor.any() for tensor in theirs):
        assert all(torch.equal(ours, tensor) for ours, tensor in zip(mask.values(), theirs, strict=True))


@given(
    st.integers(0, 1000), st.integers(1, 40), st.integers(0, 3), st.lists(st.integers(1, 12), min_size=1, max_size=5)
)
@settings(max_examples=200, deadline=None)
def test_layers_that_would_die_keep_their_best_and_the_last_of_the_ranking_give_way(seed, keep, least, sizes):
    torch.manual_seed(seed)
    network = nn.ModuleList([nn.Linear(size, 1) for size in sizes])
    for position, layer in enumerate(network):
        layer.weight.data = (torch.randn(1, sizes[position]) * 10**position).round()
    n = sum(sizes)
    owed = [min(least, size) for size in sizes]
    if not max(sum(owed), 1) <= keep <= n:
        return
    # literal: what every layer is owed first, then the best of the rest
    magnitudes = [layer.weight[0].abs().tolist() for layer in network]
    ranking = sorted((-value, position, i) for position, row in enumerate(magnitudes) for i, value in enumerate(row))
    chosen = {e for p in range(len(sizes)) for e in [x for x in ranking if x[1] == p][: owed[p]]}
    chosen |= set(itertools.islice((e for e in ranking if e not in chosen), keep - len(chosen)))
    mask = prune(network, keep / n, rules=[Rule(".*", least=least)])
    for position, tensor in enumerate(mask.values()):
        assert tensor[0].tolist() == [any(e[1:] == (position, i) for e in chosen) for i in range(sizes[position])]


def test_lamp_finds_its_own_layer_densities(model):
    mask = prune(model, 0.05, score="lamp")
    shares = {name: kept / n for name, (kept, n) in mask.per_tensor().items()}
    plain = {name: kept / n for name, (kept, n) in prune(model, 0.05).per_tensor().items()}
    assert shares["linear.weight"] > 5 * plain["linear.weight"]  # small weights, but not small in their layer


def test_wanda_compares_within_rows_when_uniform(model, score_inputs):
    mask = prune(model, 0.25, score="wanda", allocation="uniform", score_inputs=score_inputs)
    for tensor in mask.values():
        per_row = tensor.reshape(len(tensor), -1).sum(dim=1)
        assert int(per_row.max()) - int(per_row.min()) <= 1
    weight, norms = model.linear.weight, score_inputs.activations["linear.weight"]
    for scores, kept in zip(weight.abs() * norms, mask["linear.weight"], strict=True):
        best = scores.topk(int(kept.sum())).indices.sort().values
        assert kept.nonzero().flatten().tolist() == best.tolist()


def test_blocks_keep_the_nearest_number(model):
    scope = find_scope(model, (r"^(front|lstm|linear)\.",))
    for density in (0.1, 0.33, 0.337, 0.9):
        kept, groups = groups_kept(
            parse_pattern("block:16x1"), prune(model, density, pattern="block:16x1", among=scope)
        )
        assert kept == exact_count(density, groups)


def test_rules(model):
    rules = [Rule("front", dense=True), Rule("linear", floor=0.3), Rule("head", floor=0.05)]
    mask = prune(model, 0.3, rules=rules)
    assert mask.kept == exact_count(0.3, mask.prunable)
    assert mask["front.weight"].all()
    kept, n = mask.per_tensor()["linear.weight"]
    assert kept == exact_count(0.3, n)  # its weights are small: the floor is what it gets
    plain = prune(model, 0.3)
    assert plain.per_tensor()["linear.weight"][0] < kept
    blocks = prune(model, 0.3, rules=rules, pattern="block:4x1", allocation="erk")
    kept, n = blocks.per_tensor()["linear.weight"]
    assert blocks["front.weight"].all()
    assert kept >= 0.3 * n
    # what is dense needs not fit the pattern, and what the mask so far pruned stays pruned
    front = Rule("front|image|tiny", dense=True)
    nm = prune(model, 0.5, pattern="nm:2:4", rules=[front])
    assert nm["front.weight"].all()
    assert nm["linear.weight"].sum() == 24 * 32 / 2
    shrunk = prune(model, 0.1, among=plain, rules=[Rule("front", dense=True)], allocation="uniform")
    assert torch.equal(shrunk["front.weight"], plain["front.weight"])
    assert shrunk.kept == exact_count(0.1, plain.prunable)


def test_rules_that_name_every_layer_dense_leave_nothing_to_prune(model):
    assert prune(model, 1.0, rules=[Rule(".*", dense=True)]).density() == 1.0


def test_a_layer_that_was_emptied_stays_empty(model):
    start = prune(model, 0.5)
    start = Mask({**start, "linear.weight": torch.zeros_like(start["linear.weight"])})
    for allocation in ALLOCATION_NAMES:
        mask = prune(model, 0.2, among=start, allocation=allocation)
        assert not mask["linear.weight"].any()
        assert mask.kept == exact_count(0.2, mask.prunable)


def test_a_score_of_ones_own(model):
    def smallest(weights, among, score_inputs):
        return {name: -weight.detach().abs() for name, weight in weights.items()}

    mask = prune(model, 0.25, score=smallest, rules=[Rule(".*", least=0)])
    weights = dict(model.named_parameters())
    flat = torch.cat([weights[name].detach().abs().flatten() for name in mask])
    kept = torch.cat([tensor.flatten() for tensor in mask.values()])
    assert flat[kept].max() <= flat[~kept].min()
    with pytest.raises(
        MaskError, match=r"gives no float32 scores on the CPU of shape \(16, 1, 4\) for 'front\.weight'"
    ):
        prune(model, 0.25, score=lambda weights, among, score_inputs: {})


def test_half_precision_models(model):
    half = Wav2Vec2().to(torch.bfloat16)
    assert prune(half, 0.3) == prune(half.float(), 0.3)
    assert prune(half.double(), 0.3) == prune(half.float(), 0.3)


def test_the_seed_draws_another_random_mask(model):
    first, again, other = (prune(model, 0.3, score="random", score_inputs=ScoreInputs(seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("density", "settings_", "message"),
    [
        (0.0, {}, r"density 0.0 is outside \(0, 1\]"),
        (1.5, {}, r"outside"),
        (float("nan"), {}, r"outside"),
        (1e-9, {}, r"keeps none"),
        (0.002, {}, r"keeps \d, and the layers need 7: 0 in those that rules keep dense, 7 in the other 7"),
        (0.05, {"rules": [Rule("front|image", dense=True)]}, r"layers need 357: 352 in those that rules keep dense"),
        (0.05, {"rules": [Rule("linear", floor=0.5)]}, r"layers need 390: 0 in"),
        (0.5, {"rules": [Rule("liner", dense=True)]}, r"rule 'liner' matches no prunable weight; nearest"),
        (0.5, {"score": "size"}, r"'size' is not a score; scores are magnitude, lamp"),
        (0.5, {"pattern": "rings"}, r"'rings' is not a pattern"),
        (0.5, {"allocation": "fair"}, r"'fair' is not an allocation"),
        (
            0.5,
            {"pattern": "nm:2:4"},
            r"'tiny.weight' \(1, 1\) has 1 inputs per output, which 4 does not divide; exclude",
        ),
        (0.3, {"pattern": "nm:2:4"}, r"has density 0.5 and 0.3 was asked; ask for 0.5"),
        (0.5, {"pattern": "nm:2:4", "allocation": "erk"}, r"allocation 'erk' has nothing to decide"),
        (0.5, {"pattern": "nm:2:4", "rules": [Rule("head", floor=0.6)]}, r"asks for a density of 0.6 and pattern"),
        (0.5, {"pattern": "channels"}, r"is for convolutions and 'lstm.weight_ih_l0'"),
        (0.5, {"score": "taylor"}, r"needs score_inputs.saliency"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(model, density, settings_, message):
    with pytest.raises(MaskError, match=message):
        prune(model, density, **settings_)


def test_what_the_mask_so_far_does_not_allow_is_refused(model):
    so_far = prune(model, 0.3)
    with pytest.raises(MaskError, match=r"asks for \d+; the mask so far keeps \d+, and masks only shrink"):
        prune(model, 0.5, among=so_far)
    with pytest.raises(MaskError, match=r"in '.*' only in part"):
        prune(model, 0.1, among=so_far, pattern="block:1x4")
    with pytest.raises(MaskError, match=r"keeps fewer than 1 weights in \d+ groups of 4"):
        prune(model, 0.25, among=so_far, pattern="nm:1:4", rules=[Rule("tiny", dense=True)])
    with pytest.raises(MaskError, match=r"rule for 'linear\.weight' asks for a density of 0\.9.* so far keeps"):
        prune(model, 0.2, among=so_far, rules=[Rule("linear", floor=0.9)])
    with pytest.raises(MaskError, match=r"does not fit the model: 'x' is not a parameter"):
        prune(model, 0.2, among=Mask({"x": torch.ones(2, dtype=torch.bool)}))


@pytest.mark.parametrize("settings_", [{}, {"score": "lamp"}, {"pattern": "block:1x4"}, {"score": "random"}])
def test_nan_weights_are_named(settings_):
    broken = Wav2Vec2()
    with torch.no_grad():
        broken.linear.weight[3, 4] = float("nan")
    with pytest.raises(MaskError, match=r"'linear\.weight' has weights .*NaN or infinite; the model .* diverged"):
        prune(broken, 0.5, **settings_)


def test_n_of_m_names_a_nan_too():
    broken = nn.Sequential(nn.Linear(8, 8))
    with torch.no_grad():
        broken[0].weight[0, 0] = float("inf")
    with pytest.raises(MaskError, match=r"'0\.weight' has weights that are NaN or infinite"):
        prune(broken, 0.5, pattern="nm:2:4")


def test_pattern_objects_are_taken_as_they_are(model):
    linear = find_scope(model, (r"^linear\.",))
    of_a_name = prune(model, 0.5, pattern="nm:2:4", among=linear)
    assert prune(model, 0.5, pattern=NofM("nm:2:4", 2, 4), among=linear) == of_a_name
