"""Whisper on the kernels, against transformers: states, logits, texts, windows, caches, masks."""

import copy
from dataclasses import replace

import pytest
import torch
from transformers import GenerationConfig, GenerationMixin, WhisperConfig, WhisperForConditionalGeneration
from transformers.cache_utils import DynamicCache, EncoderDecoderCache

from audio_lottery.errors import ModelError
from audio_lottery.models.load import load_backbone
from audio_lottery.sparse import accelerate
from audio_lottery.sparse.runtime.registry import runner_of
from audio_lottery.sparse.runtime.whisper import WindowEncoder
from audio_lottery.sparse.runtime.whisper_decoder import DecoderLayer
from tests.models.test_transducer import bursts
from tests.models.test_whisper import LIVELY
from tests.sparse.runtime.layers import close, pruned, threads

AUDIO = [bursts(samples) for samples in (16_000, 9_001, 23_011)]
SIZES = {
    "d_model": 32, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 80,
    "decoder_ffn_dim": 80, "encoder_layers": 2, "decoder_layers": 2, "num_mel_bins": 16, "vocab_size": 60,
    "max_source_positions": 150, "max_target_positions": 40, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    "decoder_start_token_id": 1, "suppress_tokens": None, "begin_suppress_tokens": None, "init_std": 0.3,
}  # fmt: skip


def plain(density=0.3, **changes):
    """A Whisper of transformers' own, with zeros."""
    torch.manual_seed(0)
    model = WhisperForConditionalGeneration(WhisperConfig(**{**SIZES, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:  # norms and biases begin at ones and zeros
                parameter += 0.3 * torch.randn_like(parameter)
    return pruned(model, density)


def kinds(fast):
    return [(entry.name, entry.kind) for entry in fast.plan if entry.kernel != "dense"]


@pytest.fixture(scope="module")
def backbone():
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 1, "decoder_attention_heads": 1}
    found = load_backbone(replace(LIVELY, window=2.5, overrides=LIVELY.overrides | sizes), seed=2)
    pruned(found.module, 0.4)
    return found


@pytest.fixture(scope="module")
def faster(backbone):
    """The backbone on the kernels, as evaluation makes it."""
    return type(backbone)(accelerate(backbone.module, force=True), backbone.processor)


def test_what_runs_on_what(faster):
    found = dict(kinds(faster.module))
    assert found["model.encoder"] == "encoder"
    assert found["model.decoder.layers.0"] == "decoder"
    assert faster.positions == 125


@torch.no_grad()
def test_states_and_logits_of_a_backbone(backbone, faster):
    inputs = backbone.features(AUDIO)
    states = [one.module.model.encoder(**inputs).last_hidden_state for one in (backbone, faster)]
    close(states[1], states[0], rtol=0, atol=1e-4)
    tokens = torch.randint(3, 200, (3, 9))
    logits = [one.module(**inputs, decoder_input_ids=tokens).logits for one in (backbone, faster)]
    assert logits[0].std() > 0.3
    close(logits[1], logits[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize("beam", [1, 3])
def test_texts_and_scores_of_a_backbone(backbone, faster, beam):
    samples, inputs = torch.tensor([len(audio) for audio in AUDIO]), backbone.features(AUDIO)
    written = [one.emit(inputs, samples, beam) for one in (backbone, faster)]
    assert torch.equal(written[1].values, written[0].values)
    assert len(set(map(tuple, written[0].values[:, 0].tolist()))) > 1
    close(written[1].scores, written[0].scores, rtol=1e-5, atol=1e-4)
    texts = [[one.text for hypotheses in each.search(emission) for one in hypotheses] for each, emission in
             zip((backbone, faster), written, strict=True)]  # fmt: skip
    assert texts[0] == texts[1]


@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
@torch.no_grad()
def test_lower_precisions_are_near(backbone, precision):
    inputs = backbone.features(AUDIO)
    fast = accelerate(backbone.module, precision=precision, force=True)
    expected, found = (one.model.encoder(**inputs).last_hidden_state for one in (backbone.module, fast))
    assert float((found - expected).square().mean().sqrt() / expected.std()) < 0.05
    tokens = torch.randint(3, 200, (3, 9))
    expected, found = (one(**inputs, decoder_input_ids=tokens).logits for one in (backbone.module, fast))
    assert float((found - expected).square().mean().sqrt() / expected.std()) < 0.1


@pytest.mark.parametrize("density", [0.1, 0.3, 1.0])
@pytest.mark.parametrize("settings", [{}, {"activation_function": "relu"}, {"d_model": 16, "decoder_attention_heads": 1,
                                      "encoder_attention_heads": 1}])  # fmt: skip
@torch.no_grad()
def test_models_of_transformers(settings, density):
    model = plain(density, **settings)
    fast = accelerate(model, force=True)
    assert {"encoder", "decoder"} <= {kind for _, kind in kinds(fast)}
    features, tokens = torch.randn(2, 16, 300), torch.randint(3, 60, (2, 37))
    close(fast.model.encoder(features)[0], model.model.encoder(features)[0], rtol=0, atol=1e-4)
    close(fast(features, decoder_input_ids=tokens).logits, model(features, decoder_input_ids=tokens).logits,
          rtol=0, atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@torch.no_grad()
def test_masks_and_caches(attention):
    """Prompts of unlike length, padded on the left, in two steps."""
    model = plain()
    model.set_attn_implementation(attention)
    fast, features = accelerate(model, force=True), torch.randn(2, 16, 300)
    tokens = torch.randint(3, 60, (2, 9))
    mask = torch.arange(9)[None] >= torch.tensor([0, 4])[:, None]
    places = (mask.long().cumsum(1) - 1).clamp(min=0)

    def run(one):
        cache, found = EncoderDecoderCache(DynamicCache(), DynamicCache()), []
        for first, last in ((0, 6), (6, 9)):
            found.append(
                one(
                    features,
                    decoder_input_ids=tokens[:, first:last],
                    decoder_attention_mask=mask[:, :last].long(),
                    decoder_position_ids=places[:, first:last],
                    cache=cache,
                    use_cache=True,
                ).logits
            )
        assert cache.get_seq_length() == 9
        return torch.cat(found, 1)[mask]

    close(run(fast), run(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@torch.no_grad()
def test_generate_of_transformers(cache):
    model = plain()
    fast, features = accelerate(model, force=True), torch.randn(2, 16, 300)
    kind = None if cache == "dynamic" else "static"
    for options in ({"num_beams": 1}, {"num_beams": 3}, {"num_beams": 1, "use_cache": False}):
        texts = [
            GenerationMixin.generate(
                one, features, max_new_tokens=12, do_sample=False, cache_implementation=kind, **options
            )
            for one in (model, fast)
        ]
        assert torch.equal(*texts)
    assert torch.equal(*(one.generate(features, max_new_tokens=6) for one in (model, fast)))


@torch.no_grad()
def test_words_that_are_never_written():
    model = plain()
    fast, features = accelerate(model, force=True), torch.randn(2, 16, 300)

    def write(one, **lists):
        settings = GenerationConfig(
            max_length=9, decoder_start_token_id=1, eos_token_id=2, pad_token_id=0, bos_token_id=1, **lists
        )
        return GenerationMixin.generate(one, features, generation_config=settings)[:, 1:]

    written = write(fast)
    for lists, places in (
        ({"suppress_tokens": written.unique().tolist()}, slice(None)),
        ({"begin_suppress_tokens": written[:, 0].tolist()}, slice(1)),
    ):
        assert torch.equal(write(fast, **lists), write(model, **lists))
        assert not torch.isin(write(fast, **lists)[:, places], torch.tensor(next(iter(lists.values())))).any()


@torch.no_grad()
def test_threads_change_little():
    model = plain()
    fast, features, tokens = accelerate(model, force=True), torch.randn(2, 16, 300), torch.randint(3, 60, (2, 9))
    found = []
    for count in (1, 2, 3):
        with threads(count):
            found.append(fast(features, decoder_input_ids=tokens).logits)
    for other in found[1:]:
        close(other, found[0])
    assert torch.equal(fast(features, decoder_input_ids=tokens).logits, found[0])


def test_a_copy_has_a_window_of_its_own():
    encoder = WindowEncoder(plain().model.encoder)
    twin = copy.deepcopy(encoder)
    twin.config = copy.deepcopy(twin.config)
    twin.config.max_source_positions = twin.embed_positions.num_embeddings = 100
    features = torch.randn(1, 16, 200)
    assert twin(features)[0].shape == (1, 100, 32)
    with pytest.raises(ModelError, match="takes 300 frames of features and got 200"):
        encoder(features)
    assert encoder.embed_positions.num_embeddings == 150


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.model.encoder(torch.zeros(1, 16, 300), output_attentions=True), "ask the original model"),
        (lambda model: model.model.encoder(torch.zeros(1, 16, 300).half()), r"not on torch\.float16"),
        (lambda model: model.model.encoder(torch.zeros(1, 16, 300, requires_grad=True)), "no gradients"),
        (
            lambda model: model.model.decoder.layers[0](torch.zeros(1, 1, 32), output_attentions=True),
            "ask the original",
        ),
        (lambda model: model.model.decoder.layers[0](torch.zeros(1, 1, 32).double()), r"not on torch\.float64"),
        (lambda model: model.model.decoder.layers[0](torch.zeros(1, 2, 32), torch.ones(1, 2)), "takes masks"),
        (
            lambda model: model.model.decoder.layers[0](torch.zeros(1, 1, 32), encoder_attention_mask=torch.ones(1)),
            "leave its mask out",
        ),
    ],
)
def test_what_is_refused(call, message):
    fast = accelerate(plain(), force=True)
    with pytest.raises(ModelError, match=message):
        call(fast)


def test_settings_without_kernels():
    model = plain(activation_function="gelu_new")
    for module in (model.model.encoder, model.model.decoder.layers[0]):
        assert "no kernel" in runner_of(module)[1]
    assert runner_of(plain(decoder_attention_heads=4).model.decoder.layers[0])[0] is DecoderLayer
