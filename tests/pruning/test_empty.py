"""Weights of no elements and models of no weights: an empty tensor changes nothing for the others."""

import pytest
import torch
from torch import nn

from audio_lottery.errors import MaskError
from audio_lottery.pruning import (
    ALLOCATIONS,
    SCORES,
    Mask,
    Rule,
    ScoreInputs,
    apply,
    check,
    clear_state,
    collect,
    enforce,
    exact_count,
    find_scope,
    keep_largest,
    parse_pattern,
    prune,
    random_like,
    random_uniform,
    shuffled,
)
from audio_lottery.pruning.allocation import Layer, allocate, share
from audio_lottery.pruning.selection import keep_in_rows

pytestmark = pytest.mark.filterwarnings("ignore:Initializing zero-element tensors is a no-op")
PATTERNS = ["unstructured", "block:1x4", "block:3x5", "block:16x1", "rows", "columns", "nm:2:4"]
SHAPES = [(0, 8), (8, 0), (0, 0), (0,), (4, 0, 3), (0, 4, 3)]
EMPTY = ["first.weight", "none.weight", "last.weight"]


class Wav2Vec2(nn.Module):
    """Empty layers first, between and last, where allocations look for the first convolution and the last layer."""

    def __init__(self, empty: bool) -> None:
        super().__init__()
        if empty:
            self.first = nn.Conv1d(0, 4, 3)
        self.conv = nn.Conv1d(4, 8, 4)
        if empty:
            self.none = nn.Linear(0, 8)
        self.linear = nn.Linear(8, 48)
        if empty:
            self.last = nn.Linear(48, 0)


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    """The same weights with and without empty layers."""
    torch.manual_seed(0)
    model, without = Wav2Vec2(True), Wav2Vec2(False)
    without.load_state_dict(model.state_dict(), strict=False)
    return model, without


def score_inputs(mask: Mask) -> ScoreInputs:
    weights = {name: torch.ones(tensor.shape) for name, tensor in mask.items()}
    norms = {name: torch.ones(weight.shape[1:].numel()) for name, weight in weights.items()}
    grams = {name: torch.eye(len(norm)) for name, norm in norms.items()}
    return ScoreInputs(norms, weights, weights, grams)


def test_the_scope_leaves_them_out_with_the_reason(pair):
    scope = find_scope(pair[0])
    assert scope.names == ["conv.weight", "linear.weight"]
    assert [scope.left_out[name] for name in EMPTY] == [
        "empty: shape (4, 0, 3)",
        "empty: shape (8, 0)",
        "empty: shape (0, 48)",
    ]


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("spec", PATTERNS)
@pytest.mark.parametrize("score", SCORES)
def test_masks_are_those_of_the_model_without_them(pair, score, spec, allocation):
    model, without = pair
    if spec == "nm:2:4" and allocation not in ("global", "uniform"):
        pytest.skip("N:M leaves nothing to allocate")
    dense = Mask.dense(model, ["first.weight", "conv.weight", "none.weight", "linear.weight", "last.weight"])
    settings = {"score": score, "pattern": spec, "allocation": allocation, "score_inputs": score_inputs(dense)}
    expected = prune(without, 0.5, **settings)
    assert prune(model, 0.5, **settings) == expected
    mask = prune(model, 0.5, among=dense, **settings)  # a mask that decides over empty tensors too
    assert list(mask) == list(dense)
    assert Mask({name: mask[name] for name in expected}) == expected
    assert [mask.per_tensor()[name] for name in EMPTY] == [(0, 0)] * 3
    assert mask.density() == expected.density()


def test_rules_may_name_them(pair):
    model, without = pair
    dense = Mask.dense(model, [*EMPTY, *find_scope(model).names])
    rules = [Rule("none|linear", dense=True), Rule("last|conv", floor=0.1)]
    mask = prune(model, 0.8, among=dense, rules=rules)
    expected = prune(without, 0.8, rules=[Rule("linear", dense=True), Rule("conv", floor=0.1)])
    assert Mask({name: mask[name] for name in expected}) == expected


def test_a_mask_over_them_is_applied_held_saved_and_compared(pair, tmp_path):
    model, _ = pair
    mask = prune(model, 0.5, among=Mask.dense(model, [*EMPTY, "conv.weight", "linear.weight"]))
    apply(mask, model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    with enforce(mask, model, optimizer):
        model.linear(model.conv(torch.randn(2, 4, 4))[..., 0]).square().sum().backward()
        optimizer.step()
        clear_state(mask, model, optimizer)
    check(mask, model)
    mask.save(tmp_path / "mask.safetensors")
    assert Mask.load(tmp_path / "mask.safetensors") == mask
    assert mask.overlap(mask) == 1.0
    assert mask.overlap_per_tensor(mask) == dict.fromkeys(mask, 1.0)
    for control in (random_like(mask, 1), shuffled(mask, 1)):
        assert control.per_tensor() == mask.per_tensor()
    assert random_uniform(mask, 1).kept == mask.kept


def test_a_mask_of_empty_tensors_only_prunes_nothing():
    mask = Mask({"w": torch.ones(8, 0, dtype=torch.bool)})
    assert (mask.prunable, mask.kept, mask.density(), mask.per_tensor()) == (0, 0, 1.0, {"w": (0, 0)})
    assert repr(mask) == "Mask(1 tensors, 0 of 0 weights kept, density 1.0000)"


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: nn.ReLU(), r"matches no prunable weight; the model has no parameters$"),
        (
            lambda: nn.LayerNorm(3),
            r"no prunable weight; the model has no weight that can be pruned: 1 × LayerNorm parameter, 1 × b",
        ),
        (lambda: nn.Linear(0, 8), r"the model has no weight that can be pruned: 1 × empty: shape \(8, 0\), 1 × bias$"),
        (lambda: nn.Embedding(3, 2), r"1 × Embedding parameter$"),
    ],
)
def test_a_model_of_no_weights_is_one_line(make, line):
    model = make()
    for action in (lambda: find_scope(model), lambda: prune(model, 0.5)):
        with pytest.raises(MaskError, match=line) as caught:
            action()
        assert "\n" not in str(caught.value)


def test_nothing_to_keep_a_share_of_is_refused():
    line = "there are no weights to keep a share of: every tensor of the scope is empty"
    with pytest.raises(MaskError, match=line):
        exact_count(0.5, 0)
    model = nn.Linear(0, 8)
    for allocation in ALLOCATIONS:
        with pytest.raises(MaskError, match=line):
            prune(model, 0.5, among=Mask.dense(model, ["weight"]), allocation=allocation)


def test_evidence_of_them_is_empty(pair):
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.none, self.linear = nn.Linear(0, 8), nn.Linear(8, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(self.none(x)).sum()

    found = collect(Sum(), ["none.weight", "linear.weight"], [torch.ones(3, 0)], loss=lambda m, b: m(b))
    assert found.activations["none.weight"].shape == (0,)
    assert found.saliency["none.weight"].shape == (8, 0)
    assert found.activations["linear.weight"].shape == (8,)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("score", SCORES)
def test_scores_of_an_empty_tensor_are_empty(score, shape):
    weights = {"w": torch.ones(shape)}
    assert (
        SCORES[score].function(weights, None, score_inputs(Mask({"w": torch.ones(shape, dtype=torch.bool)})))["w"].shape
        == shape
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spec", PATTERNS)
def test_patterns_cut_an_empty_tensor_into_no_groups(spec, shape):
    pattern, nothing = parse_pattern(spec), torch.ones(shape)
    if spec == "nm:2:4":
        if nothing[0:1].numel() == 0 and torch.Size(shape[1:]).numel() % 4 == 0:
            assert pattern.select("w", nothing).shape == shape
        return
    groups = pattern.reduce("w", nothing)
    assert groups.shape == pattern.grid(torch.Size(shape))
    assert groups.numel() == 0
    pattern.sizes(torch.Size(shape))
    assert pattern.expand(groups.bool(), torch.Size(shape)).shape == shape
    assert pattern.whole("w", nothing.bool()).shape == groups.shape


@pytest.mark.parametrize("sizes", [None, [1, 1, 2, 2]])
def test_selection_passes_over_them(sizes):
    scores = {"a": torch.empty(0, 4), "b": torch.tensor([3.0, 1.0, 2.0, 2.0]), "c": torch.empty(0)}
    groups = None if sizes is None else {"a": torch.empty(0).numpy(), "b": torch.tensor(sizes).numpy()}
    mask = keep_largest(scores, 2 if sizes is None else 3, sizes=groups)
    assert mask["b"].tolist() == [True, False, True, False]
    assert (mask["a"].shape, mask["c"].shape) == ((0, 4), (0,))
    assert keep_in_rows(torch.empty(3, 0), torch.zeros(3, dtype=torch.int64).numpy()).shape == (3, 0)


@pytest.mark.parametrize("allocation", [name for name in ALLOCATIONS if name != "global"])
def test_allocations_give_them_nothing(allocation):
    shapes = {"none": (8, 0), "conv": (4, 1, 5), "body": (8, 8), "last": (0, 8)}
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    layers = [Layer(name, shape, sizes[name], sizes[name], 0) for name, shape in shapes.items()]
    for total in (21, 84):
        counts = allocate(allocation, layers, total, shapes)
        assert (counts["none"], counts["last"], sum(counts.values())) == (0, 0, total)
    assert allocate(allocation, layers[:1], 0, shapes) == {"none": 0}


def test_what_weighs_nothing_gets_its_least():
    assert share(5, [0, 1, 0], [1, 0, 0], [3, 9, 9]) == [1, 4, 0]
    with pytest.raises(MaskError, match="need at least 1 and have 10 to choose from"):
        share(11, [0, 1, 0], [1, 0, 0], [3, 9, 9])
