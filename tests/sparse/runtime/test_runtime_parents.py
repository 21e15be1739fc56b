"""Replaced layers inside models that do more with their layers than call them."""

import copy
import importlib
import itertools
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from transformers import AutoModelForCTC, WhisperConfig, WhisperForConditionalGeneration

from audio_lottery.errors import ModelError
from audio_lottery.sparse import accelerate
from audio_lottery.sparse.runtime.packed import Packed, PackedWeight
from tests.models.families import FAMILIES, feature_extractor, tiny_config
from tests.sparse.runtime.layers import pruned

module = importlib.import_module("audio_lottery.sparse.runtime.accelerate")  # its name is also that of a function


def lively(model, density=0.1):
    """``model`` with weights that keep activations at their size, ``density`` of them in every matrix."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                share = density if weight[0].numel() >= 16 else 1.0  # depthwise kernels would die out
                size = (1 / (share * weight[0].numel())) ** 0.5
                weight.copy_(torch.randn(weight.shape, generator=generator) * size)
                weight *= torch.rand(weight.shape, generator=generator) < share
    return model.eval()


def ctc(family):
    audio = [np.random.default_rng(seed).standard_normal(8000, np.float32) for seed in (0, 1)]
    inputs = feature_extractor(family)(audio, sampling_rate=16_000, return_tensors="pt")
    return AutoModelForCTC.from_config(tiny_config(family)), lambda model: model(**inputs).logits


def whisper():
    config = WhisperConfig(
        vocab_size=60, num_mel_bins=16, encoder_layers=2, decoder_layers=2, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=48, decoder_ffn_dim=48, d_model=32, max_source_positions=50,
        max_target_positions=20, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    features, tokens = torch.randn(2, 16, 100), torch.randint(3, 60, (2, 7))

    def call(model):
        generated = model.generate(features, max_new_tokens=5, do_sample=False)
        return torch.cat([model(features, decoder_input_ids=tokens).logits.flatten(), generated.flatten()])

    return WhisperForConditionalGeneration(config), call


def transformer():
    source, target = torch.randn(2, 9, 32), torch.randn(2, 5, 32)
    model = nn.Transformer(32, 2, 2, 2, 64, batch_first=True)
    return model, lambda model: model(source, target)


def padded_encoder():
    """With a mask torch's fused layers take nested tensors, whose padding comes back as zeros."""
    x, padding = torch.randn(2, 9, 32), torch.arange(9)[None] >= torch.tensor([9, 5])[:, None]
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 2, 64, batch_first=True), 3)
    return model, lambda model: model(x, src_key_padding_mask=padding)[~padding]


def attention(**options):
    x = torch.randn(2, 9, 32)
    model = nn.MultiheadAttention(32, 2, batch_first=True, **options)
    return model, lambda model: model(x, x, x)[0]


class Reader(nn.Module):
    """A layer, and what its parent does with it."""

    def __init__(self, layer, use, x):
        super().__init__()
        self.layer, self.use, self.x = layer, use, x

    def forward(self):
        return self.use(self.layer, self.x)


def reader(layer, use, *shape):
    return Reader(layer, use, torch.randn(shape)), lambda model: model()


MODELS = {
    **{family: lambda family=family: ctc(family) for family in FAMILIES},
    "whisper": whisper,
    "nn.Transformer": transformer,
    "nn.TransformerEncoder with padding": padded_encoder,
    "nn.MultiheadAttention": attention,
    "nn.MultiheadAttention, own sizes": lambda: attention(kdim=32, vdim=32),
}


@pytest.mark.parametrize("chosen", ["all layers", "every other layer", "the others"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_the_dense_model(name, chosen, monkeypatch):
    torch.manual_seed(0)
    model, call = MODELS[name]()
    lively(model)
    # what a trial finds is this machine's business: here it finds every other layer to be faster
    after = itertools.cycle([0.0, 2.0] if chosen == "every other layer" else [2.0, 0.0])
    monkeypatch.setattr(module, "_trial", lambda *_: (1.0, next(after)))
    fast = accelerate(model, force=chosen == "all layers")
    with torch.no_grad():
        expected, found, again = call(model), call(fast), call(fast)
    assert expected.std() > 0.3
    assert (expected - found).abs().max() < 1e-4
    assert torch.equal(found, again)


@pytest.mark.parametrize(
    ("layer", "shape", "use", "kernel"),
    [
        # what a layer is can be asked as often as one likes
        ("linear", (7, 40), lambda layer, x: layer(x.to(layer.weight.dtype)), "csr"),
        ("linear", (7, 40), lambda layer, x: layer(x.to(layer.weight.device)), "csr"),
        ("linear", (7, 40), lambda layer, x: layer(x) * layer.weight.shape[1] + len(layer.weight), "csr"),
        ("linear", (7, 40), lambda layer, x: layer(x) * layer.weight.element_size() * layer.weight.stride(0), "csr"),
        ("linear", (7, 40), lambda layer, x: layer(x) * layer.in_features + layer.out_features, "csr"),
        ("linear", (7, 40), lambda layer, x: layer(x.to(next(layer.parameters()).dtype)), "csr"),
        ("linear", (7, 40), lambda layer, x: layer(x) + layer.weight.data.new_full((32,), 2.0), "csr"),
        ("linear", (7, 40), lambda layer, x: layer(x) * sum(p.numel() for p in layer.parameters()), "csr"),
        ("linear", (7, 40), lambda layer, x: layer(x) * isinstance(layer, nn.Linear), "csr"),
        ("linear", (7, 40), lambda layer, x: layer(x) * isinstance(layer.weight, nn.Parameter), "csr"),
        ("linear", (7, 40), lambda layer, x: layer.requires_grad_(False)(x), "csr"),
        ("linear", (7, 40), lambda layer, x: layer.to(x.dtype)(x), "csr"),
        ("conv", (2, 8, 50), lambda layer, x: layer(x)[..., : 50 // layer.stride[0] - layer.kernel_size[0]], "csr"),
        ("conv", (2, 8, 50), lambda layer, x: layer(x) * layer.groups * layer.dilation[0] + layer.padding[0], "csr"),
        ("lstm", (9, 2, 12), lambda layer, x: layer.flatten_parameters() or layer(x)[0], "csr"),
        ("lstm", (9, 2, 12), lambda layer, x: layer(x, (layer.weight_hh_l0.new_ones(4, 2, 10),) * 2)[1][1], "csr"),
        # its numbers are had once
        ("linear", (7, 40), lambda layer, x: functional.linear(x, layer.weight, layer.bias), "dense"),
        ("linear", (7, 40), lambda layer, x: x @ layer.weight.t() + layer.bias.detach(), "dense"),
        ("linear", (7, 40), lambda layer, x: layer(x) + layer.weight.abs().sum(1), "dense"),
        ("linear", (7, 40), lambda layer, x: layer(x) * sum(p.pow(2).sum() for p in layer.parameters()), "dense"),
        ("linear", (7, 40), lambda layer, x: layer(x) + layer.bias, "dense"),
        ("linear", (7, 40), lambda layer, x: layer(x) + torch.from_numpy(layer.weight.numpy())[:, 0], "dense"),
        ("linear", (7, 40), lambda layer, x: layer(x) + torch.tensor(layer.bias.tolist()), "dense"),
        ("linear", (7, 40), lambda layer, x: layer.weight.data.mul_(1.0) is not None and layer(x), "dense"),
        ("conv", (2, 8, 50), lambda layer, x: functional.conv1d(x, layer.weight, groups=layer.groups), "dense"),
        ("conv", (2, 8, 50), lambda layer, x: layer._conv_forward(x, layer.weight, None), "dense"),
        ("lstm", (9, 2, 12), lambda layer, x: layer(x)[0] @ layer.weight_ih_l1_reverse[:20], "dense"),
        ("lstm", (9, 2, 12), lambda layer, x: layer(x)[0] + sum(w.sum() for w in layer.all_weights[1]), "dense"),
        (
            "lstm",
            (9, 2, 12),
            lambda layer, x: torch._VF.lstm(
                x, (torch.zeros(4, 2, 10),) * 2, layer._flat_weights, True, 2, 0.0, False, True, False
            )[0],
            "dense",
        ),
    ],
)
def test_what_parents_do_with_a_layer(layer, shape, use, kernel):
    layers = {
        "linear": lambda: nn.Linear(40, 32),
        "conv": lambda: nn.Conv1d(8, 16, 3, 2, padding=1, groups=2),
        "lstm": lambda: nn.LSTM(12, 10, 2, bidirectional=True),
    }
    model, call = reader(pruned(layers[layer](), 0.3), use, *shape)
    fast = accelerate(model.eval(), force=True)
    with torch.no_grad():
        expected = call(model)
        for _ in range(2):
            torch.testing.assert_close(call(fast), expected, rtol=1e-4, atol=1e-4)
    assert [entry.kernel for entry in fast.plan] == [kernel]
    assert isinstance(fast.layer, Packed)
    assert fast.layer.kernel == kernel
    assert ("something computed with its weights" in fast.plan[0].note) == (kernel == "dense")


LAYERS = {
    "linear": lambda: nn.Linear(900, 48),  # in two pieces
    "linear of few": lambda: nn.Linear(3, 5, bias=False),
    "conv": lambda: nn.Conv1d(12, 16, 5, 3, padding=2),
    "conv, dilated": lambda: nn.Conv1d(6, 32, 4, dilation=3, bias=False),
    "conv in groups": lambda: nn.Conv1d(16, 32, 4, groups=4, padding="same"),
    "depthwise conv": lambda: nn.Conv1d(16, 16, 7, groups=16),
    "lstm": lambda: nn.LSTM(12, 20, 2),
    "lstm of both directions": lambda: nn.LSTM(7, 40, 2, bidirectional=True),
    "lstm without bias": lambda: nn.LSTM(16, 16, bias=False),
}


PARTS = {"bfloat16": "bf16", "int8": "int8"}


@pytest.mark.parametrize("kernel", ["csr", "block16x1", "csr_bf16", "block16x2_bf16", "csr_int8", "block16_int8"])
@pytest.mark.parametrize("name", LAYERS)
def test_unpacked_weights_are_the_weights(name, kernel, monkeypatch):
    layer = pruned(LAYERS[name](), 0.2)
    precision = next((name for name, part in PARTS.items() if part in kernel), "float32")
    # the kernel that is tested is always the fastest, where the layer's sizes let it
    monkeypatch.setattr("audio_lottery.sparse.runtime.matrix.cost", lambda other: 1e-3 if other == kernel else 1.0)
    fast = accelerate(layer, precision=precision, force=True)
    for key, weight in layer.named_parameters():
        found = getattr(fast, key)
        assert found.shape == weight.shape
        found = found + 0
        if precision == "int8":
            # half a step of the row, or of a piece of it; a bias is not rounded
            step = weight.abs().amax(-1) / 127 if weight.dim() < 3 else weight.abs().amax((1, 2)) / 127
            bound = 0.51 * step.reshape(-1, *[1] * (weight.dim() - 1))
            assert ((found - weight).abs() <= bound).all(), key
            continue
        rounded = weight.to(torch.bfloat16).float()
        allowed = (weight,) if kernel != "block16x2_bf16" else (weight, rounded)
        assert any(torch.equal(found, other) for other in allowed), key


def test_copies_and_pickles_of_packed_and_dense_layers():
    for make, shape in ((LAYERS["linear"], (4, 900)), (LAYERS["conv"], (12, 50)), (LAYERS["lstm"], (9, 12))):
        model = nn.Sequential(pruned(make(), 0.2))
        fast, x = accelerate(model.eval(), force=True), torch.randn(shape)
        for dense in (False, True):
            if dense:
                next(fast[0].parameters()).sum()
            for twin in (copy.deepcopy(fast), copy.copy(fast), pickle.loads(pickle.dumps(fast))):
                found, expected = twin(x), fast(x)
                if isinstance(found, tuple):
                    found, expected = found[0], expected[0]
                assert torch.equal(found, expected)
                assert twin.plan[0].kernel == ("dense" if dense else "csr")


def test_what_is_changed_in_a_copy_stays_in_the_copy():
    layer = pruned(nn.Linear(20, 16), 0.3)
    fast = accelerate(layer, force=True)
    twin = copy.deepcopy(fast)
    x = torch.randn(3, 20)
    before = fast(x)
    with torch.no_grad():
        twin.weight.zero_()
    assert torch.equal(twin(x), layer.bias.expand(3, 16))
    assert torch.equal(fast(x), before)
    assert fast.plan[0].kernel == "csr"


@pytest.mark.parametrize(
    "change",
    [
        lambda layer, new: setattr(layer, "weight", nn.Parameter(new)),
        lambda layer, new: setattr(layer.weight, "data", new),
        lambda layer, new: layer.weight.data.copy_(new),
        lambda layer, new: layer.weight.detach().copy_(new),
        lambda layer, new: layer.weight.__setitem__(slice(None), new),
        lambda layer, new: (delattr(layer, "weight"), setattr(layer, "weight", new)),
    ],
)
def test_a_changed_weight_is_the_one_that_is_used(change):
    fast = accelerate(pruned(nn.Linear(20, 16), 0.3), force=True)
    new, x = torch.randn(16, 20), torch.randn(3, 20)
    with torch.no_grad():
        change(fast, new)
        torch.testing.assert_close(fast(x), functional.linear(x, new, fast.bias))
    assert fast.plan[0].kernel == "dense"


def test_first_calls_on_several_threads():
    def use(layer, x):
        return layer(x) + functional.linear(x, layer.weight)

    model = nn.Sequential(*(Reader(pruned(nn.Linear(60, 60), 0.2), use, torch.randn(80, 60)) for _ in range(8))).eval()
    with torch.no_grad():
        expected = [reader() for reader in model]
    for _ in range(5):
        fast = accelerate(model, force=True)

        def call(number, fast=fast):
            with torch.no_grad():
                torch.testing.assert_close(fast[number % 8](), expected[number % 8])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(call, [number for number in range(8) for _ in range(4)]))
        assert {entry.kernel for entry in fast.plan} == {"dense"}


def test_memory_is_that_of_one_copy():
    fast = accelerate(pruned(nn.Linear(512, 512), 0.1), force=True)
    assert fast.weight.nbytes == 512 * 512 * 4  # what it would take
    packed = fast.packing.packed
    assert sum(matrix.bytes for _, matrix in packed.pieces) < 0.25 * fast.weight.nbytes
    assert [type(weight) for weight in fast.parameters()] == [PackedWeight, PackedWeight]
    fast.weight.sum()
    fast(torch.randn(2, 512))
    assert fast.packing.packed is None
    assert all(type(weight) is nn.Parameter for weight in fast.parameters())


def test_a_parameter_that_was_put_on_a_layer_is_kept():
    layer = pruned(nn.Linear(20, 16), 0.3)
    layer.more = nn.Parameter(torch.randn(3, 3))
    fast = accelerate(layer, force=True)
    assert torch.equal(fast.more + 0, layer.more)
    assert torch.equal(fast.weight + 0, layer.weight)


def test_a_tied_weight_is_named_in_the_plan():
    model, _ = whisper()
    fast = accelerate(lively(model), force=True)
    notes = {entry.name: entry.note for entry in fast.plan}
    assert (
        notes["proj_out"] == "forced; its weight is also that of model.decoder.embed_tokens, and is kept there as well"
    )
    assert notes["model.encoder"] == "forced"
    with torch.no_grad():
        assert torch.equal(fast.get_output_embeddings().weight + 0, fast.get_input_embeddings().weight)


PUT_ON = "hooks, parts or another forward were put on it"


def masked(layer):
    """As old-style reparametrisations do: another weight in every call."""
    layer.register_forward_pre_hook(lambda layer, inputs: layer.weight.data.mul_(-1))
    return layer


def with_part(layer):
    layer.more = nn.Linear(2, 2)
    return layer


def replaced_forward(layer):
    layer.forward = lambda x: functional.linear(x, layer.weight) ** 2
    return layer


@pytest.mark.parametrize(
    ("change", "note"),
    [
        (masked, PUT_ON),
        (replaced_forward, PUT_ON),
        (with_part, PUT_ON),
        (nn.utils.weight_norm, PUT_ON),
        (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), PUT_ON),
        (nn.utils.parametrizations.weight_norm, "no kernel for ParametrizationList"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.*")
def test_layers_that_are_more_than_their_class_stay(change, note):
    torch.manual_seed(0)
    model = nn.Sequential(change(lively(nn.Linear(20, 16), 0.3)), lively(nn.Linear(16, 16), 0.3)).eval()
    fast, x = accelerate(model, force=True), torch.randn(3, 20)
    with torch.no_grad():
        torch.testing.assert_close(fast(x), model(x))
    assert {entry.kernel for entry in fast.plan if entry.name != "1"} == {"dense"}
    assert all(note in entry.note for entry in fast.plan if entry.name != "1")
    assert fast.plan[-1].kernel == "csr"


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda fast: fast.state_dict(), "save the model it was made from"),
        (lambda fast: fast.load_state_dict({"weight": torch.ones(16, 20)}, strict=False), "load them into the model"),
        (lambda fast: fast(torch.randn(3, 20, dtype=torch.float64)), "runs on float32"),
        (lambda fast: fast(torch.randn(3, 20, requires_grad=True)), "computes no gradients"),
        (lambda fast: fast.train(), "cannot be trained"),
    ],
)
def test_refused_uses_of_a_packed_layer(use, message):
    with pytest.raises(ModelError, match=message):
        use(accelerate(pruned(nn.Linear(20, 16), 0.3), force=True))


def test_layers_without_weights_and_without_shapes():
    model = nn.Sequential(nn.Linear(0, 8), nn.Linear(8, 8)).eval()
    fast = accelerate(pruned(model, 0.5), force=True)
    assert [entry.note for entry in fast.plan] == ["it has no weights: it runs as it is", "forced"]
    assert torch.equal(fast(torch.zeros(2, 0)), model(torch.zeros(2, 0)))
    with pytest.raises(ModelError, match="'weight' has no shape yet; call the model once"):
        accelerate(nn.LazyLinear(8).eval())


def test_accelerated_twice():
    fast = accelerate(nn.Sequential(pruned(nn.Linear(20, 16), 0.3)).eval(), force=True)
    again = accelerate(fast, force=True)
    x = torch.randn(3, 20)
    assert torch.equal(again(x), fast(x))
    assert fast.plan[0].kernel == "csr"
