"""`accelerate`: same outputs, memory freed, every refusal."""

import gc
import importlib

import pytest
import torch
from torch import nn
from transformers import HubertConfig, HubertForCTC, Wav2Vec2Config, Wav2Vec2ForCTC

from audio_lottery.errors import ModelError
from audio_lottery.sparse import accelerate
from audio_lottery.sparse.kernels.half import HAS_BF16_DOT
from audio_lottery.sparse.runtime.accelerate import PRECISIONS
from audio_lottery.sparse.runtime.modules import Accelerated
from audio_lottery.sparse.runtime.semi_structured import is_2_4

SMALL = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 160,
    "conv_dim": (32, 32, 48),
    "conv_kernel": (10, 3, 2),
    "conv_stride": (5, 2, 2),
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}


def prune(model: nn.Module, sparsity: float) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1 and "parametrizations" not in name:
                weight[torch.rand(weight.shape, generator=generator) < sparsity] = 0
    return model.eval()


@pytest.fixture
def model():
    torch.manual_seed(0)
    return prune(Wav2Vec2ForCTC(Wav2Vec2Config(**SMALL)), 0.9)


@pytest.mark.parametrize("kind", ["wav2vec2", "hubert"])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_same_outputs(kind, precision, monkeypatch):
    # which kernel is faster is this machine's business, and its load's: here those in bfloat16 always are
    monkeypatch.setattr("audio_lottery.sparse.runtime.matrix.cost", lambda kernel: 0.5 if "_" in kernel else 1.0)
    torch.manual_seed(0)
    model = Wav2Vec2ForCTC(Wav2Vec2Config(**SMALL)) if kind == "wav2vec2" else HubertForCTC(HubertConfig(**SMALL))
    prune(model, 0.9)
    fast = accelerate(model, precision=precision, force=True)
    inputs = torch.randn(2, 4321)
    with torch.no_grad():
        expected, found = model(inputs).logits, fast(inputs).logits
    share = {"float32": 0, "bfloat16": 0.05, "int8": 0.15}[precision]
    tolerance = 1e-4 + share * float(expected.std())
    assert (expected - found).abs().max() < tolerance
    if precision != "float32" and HAS_BF16_DOT:
        assert (expected - found).abs().max() > 1e-6  # it really is another arithmetic


@pytest.mark.parametrize(("half", "instead"), [(True, "bfloat16"), (False, "float32")])
def test_int8_without_its_instructions_says_so_once(model, half, instead, monkeypatch, caplog):
    accelerating = importlib.import_module("audio_lottery.sparse.runtime.accelerate")
    monkeypatch.setattr(accelerating, "HAS_INT8_DOT", False)
    monkeypatch.setattr(accelerating, "HAS_BF16_DOT", half)
    accelerating._say_once.cache_clear()
    inputs = torch.randn(1, 4321)
    with torch.no_grad():
        found, again = (accelerate(model, precision="int8", force=True)(inputs).logits for _ in range(2))
        expected = accelerate(model, precision=instead, force=True)(inputs).logits
    assert torch.equal(found, expected)
    assert torch.equal(again, expected)
    assert caplog.text.count(f"this CPU has no AVX512-VNNI, which int8 needs: {instead} takes its place") == 1


def test_the_model_itself_is_untouched_and_the_copy_keeps_no_dense_weight(model):
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    fast = accelerate(model, force=True)
    assert all(torch.equal(weight, before[name]) for name, weight in model.state_dict().items())
    assert model.wav2vec2.encoder.layers[0].attention.q_proj.weight.requires_grad
    assert all(weight.numel() < 64 * 64 for weight in fast.parameters())
    assert not any(weight.requires_grad for weight in fast.parameters())
    largest = max(weight.numel() for weight in model.parameters())
    fast_parameters = sum(weight.numel() for weight in fast.parameters())
    del model, before
    gc.collect()
    assert fast_parameters < largest


def test_plan_names_every_matrix(model):
    fast = accelerate(model, force=True)
    assert [(entry.name, entry.kind) for entry in fast.plan] == [
        ("wav2vec2.feature_extractor", "convolution"),
        ("wav2vec2.feature_projection", "linear"),
        ("wav2vec2.encoder", "encoder"),
        ("lm_head", "linear"),
    ]
    assert all(0.05 < entry.density < 0.15 for entry in fast.plan)


def test_profile_adds_up(model):
    parts = accelerate(model, force=True).profile(torch.randn(1, 16000))
    assert {name for name, _ in parts} >= {"attention", "convolutions", "positional convolution", "everything else"}
    assert all(seconds >= 0 for _, seconds in parts)


def test_replaced_only_where_it_is_faster(monkeypatch):
    layer = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 32))
    prune(layer, 0.9)
    times = iter([(1.0, 2.0), (2.0, 1.0)])
    monkeypatch.setattr("audio_lottery.sparse.runtime.accelerate._trial", lambda *_: next(times))
    fast = accelerate(layer)
    assert type(fast[0]) is nn.Linear
    assert isinstance(fast[1], Accelerated)
    assert [entry.kernel for entry in fast.plan] == ["dense", "csr"]


def test_a_layer_alone_and_a_shared_layer():
    layer = nn.Linear(32, 16)
    prune(layer, 0.8)
    inputs = torch.randn(5, 32)
    with torch.no_grad():
        assert torch.allclose(accelerate(layer, force=True)(inputs), layer(inputs), atol=1e-6)
    shared = nn.Sequential(layer, nn.ReLU(), nn.Linear(16, 32), layer).eval()
    fast = accelerate(shared, force=True)
    assert fast[0] is fast[3]


def test_modules_without_a_kernel_are_left_and_listed():
    model = nn.Sequential(nn.Linear(8, 8), nn.Conv3d(1, 1, 3), nn.MultiheadAttention(8, 2))
    prune(model, 0.5)
    plan = {entry.name: entry for entry in accelerate(model, force=True).plan}
    assert plan["1"].kernel == plan["2"].kernel == "dense"
    assert plan["1"].note == "no kernel for Conv3d: it runs as it is"
    assert plan["2"].kind == "MultiheadAttention"


def test_dense_model_comes_back(caplog):
    model = nn.Linear(64, 64).eval()
    assert accelerate(model) is model
    assert "nothing to gain" in caplog.text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model: model.train(), "training mode"),
        (lambda model: model.double(), r"is torch.float64 on cpu; call model.float\(\).cpu\(\) first"),
    ],
)
def test_refused_models(model, change, message):
    with pytest.raises(ModelError, match=message):
        accelerate(change(model))


def test_unknown_precision(model):
    with pytest.raises(ModelError, match="precision 'int4' is unknown; there are float32, bfloat16"):
        accelerate(model, precision="int4")


@pytest.mark.parametrize(
    ("use", "message"),
    [
        (lambda fast: fast.train(), "cannot be trained"),
        (lambda fast: fast.save_pretrained("nowhere"), "save the model it was made from"),
        (lambda fast: fast(torch.randn(1, 4000), output_hidden_states=True), "keeps no inner states"),
        (lambda fast: fast(torch.randn(1, 12)), "12 samples are too few"),
        (lambda fast: fast(torch.randn(1, 4000, dtype=torch.float64)), "runs on float32 on the CPU"),
    ],
)
def test_refused_uses(model, use, message):
    with pytest.raises(ModelError, match=message):
        use(accelerate(model, force=True))


def test_padding_that_is_not_at_the_end(model):
    mask = torch.ones(1, 4000, dtype=torch.long)
    fast = accelerate(model, force=True)
    with pytest.raises(ModelError, match="pad on the right"):
        fast.wav2vec2.encoder(torch.randn(1, 9, 64), attention_mask=torch.tensor([[True] * 3 + [False] + [True] * 5]))
    fast(torch.randn(1, 4000), attention_mask=mask)


def test_is_2_4():
    weight = torch.tensor([[1.0, 0, 2, 0, 0, 0, 0, 3]])
    assert is_2_4(weight)
    assert not is_2_4(torch.ones(2, 8))
    assert not is_2_4(torch.zeros(2, 6))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_2_4_on_a_gpu():
    layer = nn.Linear(256, 128).half().cuda().eval()
    with torch.no_grad():
        layer.weight.view(128, -1, 4)[..., 2:] = 0
    fast = accelerate(layer)
    inputs = torch.randn(64, 256, device="cuda", dtype=torch.float16)
    with torch.no_grad():
        assert torch.allclose(fast(inputs), layer(inputs), atol=1e-2)
    assert fast.plan[0].kernel == "semi_structured"
