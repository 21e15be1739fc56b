"""Front end and encoder of wav2vec2 and HuBERT, inside small models of every kind, against transformers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import HubertConfig, HubertModel, Wav2Vec2Config, Wav2Vec2Model

from audio_lottery.errors import ModelError
from audio_lottery.sparse.kernels.rows import FRAMES
from audio_lottery.sparse.precision import PRECISIONS
from audio_lottery.sparse.runtime.front_end import FrontEnd
from audio_lottery.sparse.runtime.projection import FeatureProjection
from audio_lottery.sparse.runtime.registry import runner_of
from audio_lottery.sparse.runtime.wav2vec2 import Encoder
from tests.sparse.runtime.layers import close, pruned, threads

KINDS = {"wav2vec2": (Wav2Vec2Config, Wav2Vec2Model), "hubert": (HubertConfig, HubertModel)}
SMALL = {
    "conv_dim": [32, 24, 24],
    "conv_kernel": [10, 3, 2],
    "conv_stride": [5, 2, 2],
    "num_feat_extract_layers": 3,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "intermediate_size": 80,
    "num_conv_pos_embeddings": 8,
    "num_conv_pos_embedding_groups": 4,
}
SETTINGS = {
    "group norm": {},
    "group norm, biases": {"conv_bias": True},
    "layer norm": {"feat_extract_norm": "layer", "conv_bias": True, "do_stable_layer_norm": True},
    "layer norm, no biases": {"feat_extract_norm": "layer"},
    "relu": {"hidden_act": "relu", "feat_extract_activation": "relu"},
    "wide": {"intermediate_size": 1600, "hidden_size": 64, "num_attention_heads": 1},
}


def small_model(kind="wav2vec2", name="group norm", density=0.3):
    config_class, model_class = KINDS[kind]
    torch.manual_seed(0)
    model = model_class(config_class(**{**SMALL, **SETTINGS[name]}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases begin at ones and zeros
                parameter += 0.3 * torch.randn_like(parameter)
            elif parameter.dim() == 2:
                parameter *= 5
    return pruned(model, density)


every_model = pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in KINDS for name in SETTINGS], ids=lambda value: value
)


@every_model
@pytest.mark.parametrize("samples", [60, 3999, 21_234])
def test_front_end(kind, name, samples):
    module = small_model(kind, name).feature_extractor
    x = 0.1 * torch.randn(2, samples) + 0.05
    close(runner_of(module)[0](module)(x), module(x), atol=1e-4)


@pytest.mark.parametrize("name", ["group norm", "layer norm"])
@given(samples=st.one_of(st.integers(10, 60), st.integers(10, 3000)), batch=st.integers(1, 3))
@settings(max_examples=25, deadline=None)
def test_front_end_of_any_length(name, samples, batch):
    module = small_model("wav2vec2", name).feature_extractor
    x = torch.randn(batch, samples)
    fast = FrontEnd(module)
    if samples < 30:  # taps and strides of SMALL: the shortest signal that gives a frame
        with pytest.raises(ModelError, match=f"{samples} samples are too few for a frame"):
            fast(x)
    else:
        found = fast(x)
        close(found, module(x), atol=1e-4)
        if samples < 50:
            assert found.shape[-1] == 1


@pytest.mark.parametrize("name", ["group norm", "layer norm"])
def test_front_end_of_silence_and_loud_signals(name):
    module = small_model("wav2vec2", name).feature_extractor
    fast = FrontEnd(module)
    for x in (torch.zeros(1, 1000), 1e-4 * torch.randn(1, 1000), 1e3 * torch.randn(1, 1000)):
        close(fast(x), module(x), atol=1e-4)


def test_front_end_threads_change_nothing():
    module = small_model().feature_extractor
    fast = FrontEnd(module)
    x = torch.randn(1, 30_000)
    results = []
    for count in range(1, 5):
        with threads(count):
            results.append(fast(x))
    assert all(torch.equal(results[0], result) for result in results)


def encoded(module, fast, x, mask=None, count=1):
    """Outputs of both, valid frames only."""
    expected = module(x, attention_mask=mask).last_hidden_state
    with threads(count):
        found = fast(x, attention_mask=mask).last_hidden_state
    assert found.shape == expected.shape
    if mask is None:
        return found, expected
    return found[mask.bool()], expected[mask.bool()]


@every_model
@pytest.mark.parametrize("frames", [1, 45, FRAMES + 30])
def test_encoder(kind, name, frames):
    module = small_model(kind, name).encoder
    fast = runner_of(module)[0](module)
    close(*encoded(module, fast, torch.randn(2, frames, module.config.hidden_size)), atol=1e-4)


@every_model
def test_encoder_with_padding(kind, name):
    module = small_model(kind, name).encoder
    fast = Encoder(module)
    lengths = torch.tensor([70, 1, 33, 64])
    mask = torch.arange(70)[None] < lengths[:, None]
    x = torch.randn(4, 70, module.config.hidden_size)
    close(*encoded(module, fast, x, mask), atol=1e-4)
    close(*encoded(module, fast, x, mask.long()), atol=1e-4)


@given(st.lists(st.integers(1, 3 * FRAMES), min_size=1, max_size=3), st.integers(1, 4))
@settings(max_examples=20, deadline=None)
def test_encoder_of_any_lengths(lengths, count):
    module = small_model("wav2vec2", "layer norm").encoder
    fast = Encoder(module)
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    close(*encoded(module, fast, torch.randn(len(lengths), max(lengths), 48), mask, count), atol=1e-4)


def test_encoder_leaves_its_input_as_it_was():
    module = small_model().encoder
    x = torch.randn(1, 30, 48)
    before = x.clone()
    Encoder(module)(x, attention_mask=torch.arange(30)[None] < 20)
    assert torch.equal(x, before)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["group norm", "layer norm", "wide"])
def test_an_encoder_of_a_single_tile_is_the_same_on_any_number_of_threads(name, precision):
    """Threads that have no tile of their own share the rows."""
    module = small_model("wav2vec2", name).encoder
    fast = Encoder(module, precision)
    for frames in (1, 40, 99, FRAMES):
        x = torch.randn(1, frames, module.config.hidden_size)
        alone = fast(x).last_hidden_state
        for count in (2, 3, 8):
            with threads(count):
                assert torch.equal(fast(x).last_hidden_state, alone)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [1, 33, FRAMES + 9])
def test_feature_projection(kind, frames):
    module = small_model(kind).feature_projection
    fast = FeatureProjection(module)
    x = 3 * torch.randn(2, module.projection.in_features, frames).transpose(1, 2) + 1
    expected = module(x)
    for count in (1, 2):
        with threads(count):
            for given in (x, x.contiguous()):
                found = fast(given)
                assert type(found) is type(expected)
                if isinstance(found, tuple):
                    close(found[1], expected[1])
                    close(found[0], expected[0])
                else:
                    close(found, expected)
    with pytest.raises(ModelError, match="inputs got"):
        fast(x[..., 1:])


def test_encoder_threads_change_little():
    """Attention sums over tiles, whose width depends on the threads."""
    module = small_model().encoder
    fast = Encoder(module)
    x = torch.randn(1, 300, 48)
    results = []
    for count in range(1, 5):
        with threads(count):
            results.append(fast(x).last_hidden_state)
    for result in results[1:]:
        close(result, results[0])
    assert torch.equal(fast(x).last_hidden_state, results[0])


def test_whole_model():
    model = small_model("wav2vec2", "layer norm")
    x = torch.randn(2, 5000)
    mask = torch.arange(5000)[None] < torch.tensor([5000, 3210])[:, None]
    expected = model(x, attention_mask=mask.long()).last_hidden_state
    valid = model._get_feature_vector_attention_mask(expected.shape[1], mask.long())
    model.feature_extractor = FrontEnd(model.feature_extractor)
    model.encoder = Encoder(model.encoder)
    close(model(x, attention_mask=mask.long()).last_hidden_state[valid], expected[valid], atol=1e-4)


def test_encoder_refuses_what_it_cannot_do():
    fast = Encoder(small_model().encoder)
    x = torch.zeros(1, 9, 48)
    for option in ("output_attentions", "output_hidden_states"):
        with pytest.raises(ModelError, match="ask the original model"):
            fast(x, **{option: True})
    with pytest.raises(ModelError, match="pad on the right"):
        fast(x, attention_mask=torch.arange(9)[None] > 2)
    with pytest.raises(ModelError, match="no gradients"):
        fast(x.clone().requires_grad_())
    with pytest.raises(ModelError, match=r"not on torch\.float64"):
        fast(x.double())
    with pytest.raises(ModelError, match=r"not on torch\.float16"):
        FrontEnd(small_model().feature_extractor)(torch.zeros(1, 900).half())


@pytest.mark.parametrize("settings", [{"hidden_act": "gelu_new"}, {"feat_extract_activation": "tanh"}])
def test_unknown_activations_have_no_runner(settings):
    model = Wav2Vec2Model(Wav2Vec2Config(**SMALL, **settings))
    module = model.encoder if "hidden_act" in settings else model.feature_extractor
    assert "no kernel" in runner_of(module)[1]


def test_hubert_with_batch_norm_has_no_runner():
    module = HubertModel(HubertConfig(**SMALL, conv_pos_batch_norm=True)).encoder
    assert runner_of(module) == (Encoder, "no kernel for HubertEncoder: it runs as it is")


def test_other_modules_have_no_runner():
    assert runner_of(torch.nn.ReLU()) == (None, "")
