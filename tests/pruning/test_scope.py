"""What may be pruned, and why the rest may not."""

import pytest
from torch import nn
from torch.nn.utils import parametrizations

from audio_lottery.errors import MaskError
from audio_lottery.pruning import find_scope


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 8)
        self.conv = nn.Conv1d(8, 8, 3)
        self.positional = parametrizations.weight_norm(nn.Conv1d(8, 8, 3), name="weight", dim=2)
        self.norm = nn.LayerNorm(8)
        self.lstm = nn.LSTM(8, 8)
        self.linear = nn.Linear(8, 8)
        self.lm_head = nn.Linear(8, 3)


def test_scope_lists_what_is_prunable_and_why_the_rest_is_not():
    scope = find_scope(Encoder(), exclude=[r"^lm_head\."])
    assert scope.names == ["conv.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "linear.weight"]
    assert scope.left_out["lm_head.weight"] == r"excluded by '^lm_head\.'"
    assert scope.left_out["positional.parametrizations.weight.original1"] == "behind a parametrisation (weight norm)"
    assert scope.left_out["embedding.weight"] == "Embedding parameter"
    assert scope.left_out["conv.bias"] == "bias"
    assert set(scope.names) | set(scope.left_out) == {name for name, _ in Encoder().named_parameters()}


def test_scope_that_matches_nothing_suggests_names():
    with pytest.raises(MaskError, match=r"matches no prunable weight; nearest prunable names: .*linear\.weight"):
        find_scope(Encoder(), include=["liner.weight"])
    with pytest.raises(MaskError, match="not a regular expression"):
        find_scope(Encoder(), include=["("])


def test_tied_weights_count_once():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert find_scope(model).names == ["0.weight"]


class Tied(nn.Module):
    """Weights that have a second name: the head that of a layer before it, the output that of an embedding after it."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(8, 8)
        self.first = nn.Linear(8, 8)
        self.lm_head = nn.Linear(8, 8)
        self.output = nn.Linear(8, 5)
        self.embedding = nn.Embedding(5, 8)
        self.lm_head.weight = self.first.weight
        self.embedding.weight = self.output.weight


def test_a_tied_weight_is_judged_by_all_its_names_and_places():
    scope = find_scope(Tied())
    assert scope.names == ["body.weight", "first.weight"]
    assert scope.left_out["output.weight"] == "tied to 'embedding.weight' (Embedding parameter)"
    excluded = find_scope(Tied(), exclude=[r"^lm_head\."])  # the head hides behind the name of the layer
    assert excluded.names == ["body.weight"]
    assert excluded.left_out["first.weight"] == r"excluded by '^lm_head\.'"
    assert find_scope(Tied(), include=[r"^lm_head\."]).names == ["first.weight"]


@pytest.mark.parametrize("setting", ["include", "exclude"])
def test_one_string_is_not_a_list_of_expressions(setting):
    with pytest.raises(
        MaskError, match=rf"{setting} is the string 'lm_head'; give a list of expressions: \['lm_head'\]"
    ):
        find_scope(Encoder(), **{setting: "lm_head"})


def test_convolutions_of_every_dimension_are_in_the_scope_and_transposed_ones_and_cells_are_not():
    model = nn.Sequential(nn.Conv1d(2, 2, 1), nn.Conv2d(2, 2, 1), nn.Conv3d(2, 2, 1), nn.ConvTranspose1d(2, 2, 1))
    model.append(nn.LSTMCell(2, 2))
    scope = find_scope(model)
    assert scope.names == ["0.weight", "1.weight", "2.weight"]
    assert scope.left_out["3.weight"] == "ConvTranspose1d parameter"
    assert scope.left_out["4.weight_hh"] == "LSTMCell parameter"
