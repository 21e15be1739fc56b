"""Transducers: the loss against its lattice, searches against each other and against all texts, streams."""

import copy
import itertools
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchaudio.models import RNNTBeamSearch

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.load import load_backbone
from audio_lottery.models.transducer import TransducerConfig, TransducerForRNNT
from audio_lottery.models.transducer.beam import beam_search
from audio_lottery.models.transducer.features import LogMelFeatureExtractor
from audio_lottery.models.transducer.greedy import greedy, predict
from audio_lottery.models.transducer.loss import transducer_loss
from tests.lottery.test_backbones import TINY
from tests.models import lattice


def bursts(samples: int) -> np.ndarray:
    """Noise that comes and goes, so that frames differ."""
    rng = np.random.default_rng(samples)
    level = np.repeat(10.0 ** rng.uniform(-5, -0.5, samples // 2000 + 1), 2000)[:samples]
    return (rng.normal(0, 1, samples) * level).astype(np.float32)


AUDIO = [bursts(samples) for samples in (16_000, 9_001, 24_011)]
SAMPLES = torch.tensor([len(audio) for audio in AUDIO])
LABELS = [torch.tensor([3, 4, 5]), torch.tensor([6, 6]), torch.tensor([7, 8, 9, 10])]
KINDS = {
    "rnnt": TINY["transducer"],
    "parakeet rnnt": ModelConfig("parakeet-rnnt-mini", overrides=TINY["parakeet_transducer"].overrides),
    "parakeet tdt": TINY["parakeet_transducer"],
}
FAST = settings(max_examples=5, deadline=None)


def lively(config: ModelConfig, seed: int = 1, **overrides):
    """A random transducer that writes something, and not at every frame."""
    config = ModelConfig(config.init, overrides=config.overrides | overrides)
    backbone = load_backbone(config, seed)
    module = backbone.module.eval()
    with torch.no_grad():
        encoded, frames = backbone.encode(backbone.features(AUDIO), SAMPLES)
        valid = torch.cat([row[:count] for row, count in zip(encoded, frames.tolist(), strict=True)])
        projector, head, blank = module.encoder_projector, module.joint.head, module.config.blank_token_id
        projector.weight /= valid.std(0)[:, None]
        projector.bias.copy_((projector.bias - valid.mean(0)) / valid.std(0))
        module.decoder.embedding.weight /= module.decoder.embedding.weight.std()
        head.weight *= 3.0 / head.weight.std() / head.weight.shape[1] ** 0.5
        encoded, _ = backbone.encode(backbone.features(AUDIO), SAMPLES)
        logits = module.joint(predict(module.decoder, torch.tensor([blank]))[0], encoded[0, : frames[0]])
        head.bias[blank] += (logits[:, 1 : module.config.vocab_size].max(-1).values - logits[:, blank]).mean()
    return backbone


def tiny_module(seed: int, vocabulary: int = 3, **fields) -> TransducerForRNNT:
    """Joint and prediction network of a few outputs, peaky enough that the labels so far matter."""
    torch.manual_seed(seed)
    config = TransducerConfig(
        vocab_size=vocabulary,
        num_mel_bins=4,
        hidden_size=4,
        num_hidden_layers=1,
        time_reduction=[1],
        decoder_hidden_size=6,
        **fields,
    )
    module = TransducerForRNNT(config).eval()
    for weight in (module.joint.head.weight, module.decoder.lstm.weight_ih_l0, module.decoder.lstm.weight_hh_l0):
        weight.data *= 3.0
    return module


def frames_of(seed: int, count: int) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed))


def literal(module, encoded: torch.Tensor, labels: list[int]) -> torch.Tensor:
    config = module.config
    predicted = module.decoder(torch.tensor([[config.blank_token_id, *labels]]))[0]
    logits = module.joint(predicted[None], encoded[:, None])
    durations = getattr(config, "durations", None)
    if durations:
        return lattice.tdt(logits, labels, config.blank_token_id, durations)
    return lattice.rnnt(logits, labels, config.blank_token_id)


def test_sizes_of_presets():
    with torch.device("meta"):
        base = TransducerForRNNT(TransducerConfig())
    assert sum(parameter.numel() for parameter in base.parameters()) == 130_091_037
    for preset, millions in (("rnnt-mini", 1.09), ("rnnt-small", 8.0), ("parakeet-tdt-mini", 1.2)):
        model = load_backbone(ModelConfig(preset), seed=0).module
        assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.05)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cells", [2**25, 2000, 1])
def test_loss_and_gradient_are_those_of_the_lattice(kind, cells):
    """Whole, in pieces, and every utterance by itself; an empty transcript is all blanks."""
    module = lively(KINDS[kind]).module
    labels = [*LABELS[:2], torch.tensor([], dtype=torch.long)]
    frames = torch.tensor([5, 7, 3])
    encoded = torch.randn(3, 7, module.config.decoder_hidden_size, generator=torch.Generator().manual_seed(0))
    encoded.requires_grad_()
    losses = transducer_loss(module, encoded, frames, labels, cells)
    exact = copy.deepcopy(module).double()
    inputs = encoded.detach().double().requires_grad_()
    expected = torch.stack(
        [
            literal(exact, row[:count], one.tolist())
            for row, count, one in zip(inputs, frames.tolist(), labels, strict=True)
        ]
    )
    torch.testing.assert_close(losses.double(), expected, rtol=1e-5, atol=1e-5)
    losses.sum().backward()
    expected.sum().backward()
    torch.testing.assert_close(encoded.grad.double(), inputs.grad, rtol=1e-3, atol=1e-4)
    for name, parameter in exact.named_parameters():
        if name.startswith(("decoder", "joint")) and parameter.grad is not None:
            found = module.get_parameter(name).grad.double()
            torch.testing.assert_close(found, parameter.grad, rtol=1e-3, atol=1e-3, msg=name)


@pytest.mark.parametrize(
    ("label", "message"),
    [(0, "has the label 0, which is the blank, 0"), (-100, "has the label -100, which is none of"), (99, "label 99")],
)
def test_labels_that_would_give_a_loss_without_meaning(label, message):
    module = tiny_module(0, 5)
    with pytest.raises(ModelError, match=message):
        transducer_loss(module, frames_of(0, 4)[None], torch.tensor([4]), [torch.tensor([1, label])])
    with pytest.raises(ModelError, match="utterance 0 of a batch is too short"):
        transducer_loss(module, frames_of(0, 4)[None], torch.tensor([0]), [torch.tensor([1])])


def test_the_module_gives_the_same_loss_with_padded_labels():
    backbone = load_backbone(TINY["transducer"], 1)
    module = backbone.module.eval()
    inputs = backbone.features(AUDIO)
    padded = torch.nn.utils.rnn.pad_sequence(LABELS, batch_first=True, padding_value=-100)
    with torch.no_grad():
        losses = backbone.loss(inputs, SAMPLES, LABELS)
        found = module(**inputs, labels=padded).loss
    assert float(found) == pytest.approx(float((losses / torch.tensor([3, 2, 4])).mean()), rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_hypotheses_are_the_same_alone_and_in_a_batch(kind):
    backbone = lively(KINDS[kind])
    with torch.no_grad():
        together = backbone.search(backbone.emit(backbone.features(AUDIO), SAMPLES))
        alone = [
            backbone.search(backbone.emit(backbone.features([audio]), SAMPLES[i : i + 1]))[0]
            for i, audio in enumerate(AUDIO)
        ]
    assert len({hypothesis.labels for [hypothesis] in together}) > 1, "says something"
    for [one], [other], samples in zip(together, alone, SAMPLES.tolist(), strict=True):
        assert (one.text, one.labels, one.times) == (other.text, other.labels, other.times)
        assert one.score == pytest.approx(other.score, rel=1e-4)
        assert list(one.times) == sorted(one.times)
        assert all(0 <= time < samples / 16_000 for time in one.times)


def test_the_score_of_greedy_is_that_of_its_path():
    module, encoded = tiny_module(3, 5), frames_of(3, 9)
    with torch.no_grad():
        [found] = greedy(module, encoded[None], [9]).written
        total, memory, last, written = 0.0, None, 0, list(zip(found.frames, found.labels, strict=True))
        predicted, memory = predict(module.decoder, torch.tensor([last]))
        for frame in range(9):
            for label in [label for at, label in written if at == frame] + [0]:
                total += float(module.joint(predicted[0], encoded[frame]).log_softmax(-1)[label])
                if label:
                    predicted, memory = predict(module.decoder, torch.tensor([label]), memory)
    assert found.score == pytest.approx(total, rel=1e-5)


def test_no_frame_gets_more_labels_than_the_limit():
    module = tiny_module(0, max_symbols_per_step=2)
    module.joint.head.bias.data[0] = -50.0
    with torch.no_grad():
        [found] = greedy(module, frames_of(0, 4)[None], [4]).written
    assert found.frames == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("seed", range(3))
def test_a_wide_beam_finds_the_likeliest_of_all_texts(seed):
    module, encoded = tiny_module(seed, max_symbols_per_step=4), frames_of(seed, 2)
    with torch.no_grad():
        found = {one.labels: one.score for one in beam_search(module, encoded, 2000)}
        texts = [text for length in range(5) for text in itertools.product((1, 2), repeat=length)]
        exact = {text: -float(literal(module, encoded, list(text))) for text in texts}
    for text, score in exact.items():
        assert found[text] == pytest.approx(score, abs=1e-4)
    assert max(found, key=found.get) == max(exact, key=exact.get)


class ForTorchaudio(torch.nn.Module):
    """A transducer as `RNNTBeamSearch` wants it: the blank is the last output."""

    def __init__(self, module):
        super().__init__()
        self.module = module
        self.last = module.config.vocab_size - 1

    def transcribe(self, frames, lengths):
        return frames, lengths

    def predict(self, labels, lengths, state):
        ids = torch.where(labels == self.last, 0, labels + 1)[:, 0]
        memory = None if state is None else tuple(part.transpose(0, 1).contiguous() for part in state[0])
        out, after = predict(self.module.decoder, ids, memory)
        return out[:, None], lengths, [[part.transpose(0, 1) for part in after]]

    def join(self, frames, lengths, predicted, counts):
        return self.module.joint(predicted[:, None], frames[:, :, None]).roll(-1, -1), lengths, counts


@pytest.mark.parametrize("seed", range(4))
def test_beam_search_is_torchaudios(seed):
    module, encoded = tiny_module(seed, 6, max_symbols_per_step=100), frames_of(seed, 8)
    theirs = RNNTBeamSearch(ForTorchaudio(module), blank=5, hypo_sort_key=lambda hypothesis: hypothesis[3])
    with torch.no_grad():
        expected = theirs(encoded, torch.tensor(8), 4)
        found = beam_search(module, encoded, 4)
    assert [one.labels for one in found] == [tuple(label + 1 for label in one[0][1:]) for one in expected]
    assert [one.score for one in found] == pytest.approx([one[3] for one in expected], rel=1e-4)
    assert all(len(one.frames) == len(one.labels) and list(one.frames) == sorted(one.frames) for one in found)


def test_greedy_is_a_beam_of_one_where_the_model_is_sure():
    """Else they may differ: greedy stays with a label whose continuations lose to the blank."""
    module, encoded = tiny_module(0, 6), torch.stack([frames_of(seed, 8) for seed in range(3)])
    labels = [torch.tensor(text) for text in ([1, 2, 2, 3], [4, 4], [5, 1, 4, 3, 2])]
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    for _ in range(80):
        optimizer.zero_grad()
        loss = transducer_loss(module, encoded, torch.tensor([8, 8, 8]), labels).sum()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 1.0
    with torch.no_grad():
        written = greedy(module, encoded, [8, 8, 8]).written
        for row, one, label in zip(encoded, written, labels, strict=True):
            [best] = beam_search(module, row, 1)
            assert list(best.labels) == one.labels == label.tolist()
            assert list(best.frames) == one.frames
            assert best.best == pytest.approx(one.score, abs=1e-4)


def test_durations_have_no_beam_search():
    backbone = lively(KINDS["parakeet tdt"])
    emission = backbone.emit(backbone.features(AUDIO), SAMPLES)
    with pytest.raises(ModelError, match="ParakeetForTDT predicts durations, which beam search does not know"):
        backbone.search(emission, beam=2)


STREAMED = lively(TINY["transducer"], bidirectional=False)
WHOLE = AUDIO[2]
with torch.no_grad():
    [[OFFLINE]] = STREAMED.search(STREAMED.emit(STREAMED.features([WHOLE]), SAMPLES[2:]))


@FAST
@given(st.lists(st.sampled_from([160, 401, 2_000]) | st.integers(500, 48_000), min_size=1, max_size=8))
def test_a_stream_says_what_the_whole_recording_says(lengths):
    """For chunks of 1 to 3000 ms in any order; what was written stays."""
    cuts = np.cumsum(list(itertools.islice(itertools.cycle(lengths), 24_011 // min(lengths))))
    partial = list(STREAMED.stream(np.split(WHOLE, cuts[cuts < len(WHOLE)])))
    assert len(OFFLINE.labels) > 5
    assert (partial[-1].text, partial[-1].labels, partial[-1].times) == (OFFLINE.text, OFFLINE.labels, OFFLINE.times)
    assert partial[-1].score == pytest.approx(OFFLINE.score, rel=1e-4)
    for before, after in itertools.pairwise(partial):
        assert after.labels[: len(before.labels)] == before.labels


def test_a_stream_of_single_milliseconds():
    audio = WHOLE[:4_000]
    with torch.no_grad():
        [[offline]] = STREAMED.search(STREAMED.emit(STREAMED.features([audio]), torch.tensor([4_000])))
    *_, last = STREAMED.stream(np.split(audio, range(16, 4_000, 16)))
    assert (last.text, last.times) == (offline.text, offline.times)


@FAST
@given(st.integers(0, 24_011), st.integers(0, 2**31))
def test_no_feature_looks_ahead(samples, seed):
    extract = LogMelFeatureExtractor(feature_size=20)
    changed = WHOLE.copy()
    changed[samples:] = np.random.default_rng(seed).normal(0, 0.3, len(WHOLE) - samples)
    one, other = (extract([audio])["input_features"][0] for audio in (WHOLE, changed))
    assert len(one) == len(WHOLE) // 160
    torch.testing.assert_close(one[: samples // 160], other[: samples // 160])


def test_the_extractor_pickles_and_takes_any_length():
    extract = pickle.loads(pickle.dumps(STREAMED.features))
    for samples in (0, 1, 159, 160, 401):
        features = extract([np.zeros(samples, np.float32)])["input_features"]
        assert features.shape[1] == samples // 160
        assert features.isfinite().all()
    assert STREAMED.shortest == 160 * 2 * 3
    assert STREAMED.frames(torch.tensor([959, 960, 1919, 1920])).tolist() == [0, 1, 1, 2]
    assert not STREAMED.can_align([], 16_000)
    assert STREAMED.can_align([3] * 10, 960)
    assert not STREAMED.can_align([3] * 11, 960)


def test_what_cannot_stream():
    with pytest.raises(ModelError, match="reads utterances from both ends and cannot stream; train one with"):
        next(load_backbone(TINY["transducer"], 0).stream([WHOLE]))
    for chunk in (np.zeros(4, np.int16), np.zeros((4, 2), np.float32)):
        with pytest.raises(ModelError, match="give mono samples as floats"):
            next(STREAMED.stream([chunk]))


def test_a_broken_model_is_told_of():
    module = tiny_module(0)
    module.joint.head.bias.data[:] = float("nan")
    with torch.no_grad(), pytest.raises(ModelError, match="not a number for 1 of 1 utterances"):
        greedy(module, frames_of(0, 3)[None], [3])
    with torch.no_grad(), pytest.raises(ModelError, match="not a number"):
        beam_search(module, frames_of(0, 3), 2)


@pytest.mark.parametrize("kind", ["parakeet rnnt", "parakeet tdt"])
def test_greedy_is_transformers_generate(kind):
    backbone = lively(KINDS[kind])
    module, config = backbone.module, backbone.module.config
    if kind == "parakeet tdt":
        module.joint.head.bias.data[config.vocab_size] = -100.0  # no duration of 0: theirs may stay at a frame for ever
    settings = module.generation_config
    settings.decoder_start_token_id, settings.pad_token_id = config.blank_token_id, config.blank_token_id
    settings.eos_token_id, settings.bos_token_id = None, None
    settings.suppress_tokens = list(range(config.vocab_size, module.joint.head.out_features)) or None
    for index, audio in enumerate(AUDIO):
        inputs = backbone.features([audio])
        with torch.no_grad():
            [[found]] = backbone.search(backbone.emit(inputs, SAMPLES[index : index + 1]))
            [theirs] = module.generate(**inputs, max_length=600).sequences
        assert list(found.labels) == [label for label in theirs.tolist() if label != config.blank_token_id]


def test_word_pieces_with_a_blank_of_their_own():
    """As nvidia's checkpoints have them: the blank is the last output and not what the tokenizer pads with."""
    config = SimpleNamespace(blank_token_id=4, vocab_size=5)
    module = tiny_module(1, 5, blank_token_id=4)
    assert module.config.blank_token_id == config.blank_token_id
    encoded = frames_of(1, 6)
    loss = transducer_loss(module, encoded[None], torch.tensor([6]), [torch.tensor([0, 2])])
    assert float(loss.detach()) == pytest.approx(float(literal(module, encoded, [0, 2]).detach()), rel=1e-5)
    with torch.no_grad():
        [written] = greedy(module, encoded[None], [6]).written
    assert 4 not in written.labels
