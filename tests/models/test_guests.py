"""Conformer and CNN-LSTM: sizes, losses that add up, padding that counts nowhere, masks of an utterance's own."""

import numpy as np
import pytest
import torch
from torch import nn

from audio_lottery.config import ModelConfig, SpecAugmentConfig
from audio_lottery.errors import ConfigError, ModelError, TextError
from audio_lottery.models.batch_norm import batch_norm
from audio_lottery.models.cnn_lstm import CnnLstmConfig, CnnLstmForCTC
from audio_lottery.models.cnn_lstm.modeling import BidirectionalLstm, reversal
from audio_lottery.models.load import load_backbone, load_folder
from audio_lottery.models.specaugment import FeatureMasking, feature_masking
from audio_lottery.models.tokenizers import PieceVocabulary, train_tokenizer
from tests.lottery.test_backbones import TINY

AUDIO = [
    np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32) for samples in (16_000, 9_001, 24_011)
]
SAMPLES = torch.tensor([len(audio) for audio in AUDIO])
LABELS = [torch.tensor([3, 4, 5]), torch.tensor([6, 6]), torch.tensor([7, 8, 9, 10])]
TEXTS = ["hello world it's me", "the quick brown fox", "seven eleven oh nine", "hello hello bookkeeper"] * 20


def test_the_published_size():
    with torch.device("meta"):
        model = CnnLstmForCTC(CnnLstmConfig())
    assert sum(parameter.numel() for parameter in model.parameters()) == 86_618_429


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("conformer-mini", 1.0), ("conformer-small", 3.3), ("cnn-lstm-mini", 0.8), ("cnn-lstm-small", 6.0)],
)
def test_sizes_of_presets(preset, millions):
    model = load_backbone(ModelConfig(init=preset), seed=0).module
    assert sum(parameter.numel() for parameter in model.parameters()) / 1e6 == pytest.approx(millions, rel=0.15)


@pytest.mark.parametrize("preset", ["conformer-mini", "parakeet-rnnt-mini"])
def test_the_signal_survives_the_subsampling_of_a_preset(preset):
    """transformers' own draw, of scale 0.02, leaves 1e-4 of it, and training stays on the plateau of CTC."""
    backbone = load_backbone(ModelConfig(init=preset), seed=0)
    again = load_backbone(ModelConfig(init=preset), seed=0).module.state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in backbone.module.state_dict().items())
    features = torch.randn(1, 200, 64, generator=torch.Generator().manual_seed(0))
    encoder = backbone.module.encoder
    with torch.no_grad():
        frames = encoder.subsampling(features, None)
    assert float((frames - frames.mean(dim=1)).std()) > 0.01


@pytest.mark.parametrize("family", TINY)
def test_the_loss_of_a_batch_is_that_of_its_utterances(family):
    backbone = load_backbone(TINY[family], seed=1)
    backbone.module.eval()
    with torch.no_grad():
        together = backbone.loss(backbone.features(AUDIO), SAMPLES, LABELS)
        alone = [
            float(backbone.loss(backbone.features([audio]), SAMPLES[index : index + 1], LABELS[index : index + 1]))
            for index, audio in enumerate(AUDIO)
        ]
    assert together.tolist() == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize("family", sorted(TINY.keys() - {"whisper"}))  # which pads everything alike
def test_more_padding_changes_no_training_step(family):
    backbone = load_backbone(TINY[family], seed=1)
    backbone.module.train()
    losses = []
    for extra in (0, 100):
        torch.manual_seed(0)
        inputs = {
            name: nn.functional.pad(tensor, (0, 0, 0, extra) if tensor.dim() == 3 else (0, extra))
            for name, tensor in backbone.features(AUDIO).items()
        }
        for module in backbone.module.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
        losses.append(backbone.loss(inputs, SAMPLES, LABELS).tolist())
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


def test_batch_norm_counts_valid_frames_only():
    x = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(0))
    frames = torch.tensor([10, 4, 7])
    ours, plain = nn.BatchNorm1d(4), nn.BatchNorm1d(4)
    found = batch_norm(ours, x, frames)
    valid = torch.cat([row[:, :count].T for row, count in zip(x, frames, strict=True)])
    expected = plain(valid)
    for row, want in zip(found, expected.split(frames.tolist()), strict=True):
        torch.testing.assert_close(row[:, : len(want)].T, want)
    torch.testing.assert_close(ours.running_mean, plain.running_mean)
    torch.testing.assert_close(ours.running_var, plain.running_var)
    assert int(ours.num_batches_tracked) == 1


def test_the_bidirectional_layer_is_a_packed_lstm_summed():
    torch.manual_seed(0)
    layer, packed = BidirectionalLstm(5, 7), nn.LSTM(5, 7, batch_first=True, bidirectional=True)
    state = dict(layer.forward_lstm.state_dict())
    state |= {f"{name}_reverse": value for name, value in layer.backward_lstm.state_dict().items()}
    packed.load_state_dict(state)
    x, frames = torch.randn(3, 9, 5), torch.tensor([9, 4, 6])
    rows = nn.utils.rnn.pack_padded_sequence(x, frames, batch_first=True, enforce_sorted=False)
    expected = nn.utils.rnn.pad_packed_sequence(packed(rows)[0], batch_first=True)[0]
    found = layer(x, reversal(frames, 9))
    for row, want, count in zip(found, expected[..., :7] + expected[..., 7:], frames.tolist(), strict=True):
        torch.testing.assert_close(row[:count], want[:count], atol=1e-5, rtol=1e-5)


def test_masks_are_a_function_of_the_utterance_alone():
    features = torch.ones(2, 60, 20)
    mask = torch.ones(2, 60, dtype=torch.long)
    mask[1, 40:] = 0
    masking = FeatureMasking(SpecAugmentConfig(time_prob=0.3, time_length=5, feature_prob=0.3, feature_length=3))

    def masked(rows):
        inputs = {"input_features": features[rows], "attention_mask": mask[rows]}
        return masking(inputs, mask[rows].sum(-1), [np.random.default_rng(row) for row in rows])["input_features"]

    together = masked([0, 1])
    assert torch.equal(together[1:], masked([1]))
    assert (features == 1).all(), "the given inputs stay as they are"
    assert (together == 0).any()
    assert (together[1, 40:] == 1).all(), "padding is not masked"
    assert feature_masking(SpecAugmentConfig(time_prob=0, feature_prob=0)) is None


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_word_pieces_write_what_they_read(kind, tmp_path):
    tokenizer = train_tokenizer(TEXTS, kind, 60)
    vocabulary = PieceVocabulary(tokenizer)
    for text in ("hello world", "bookkeeper oh", "the fox"):
        labels = vocabulary.encode(text)
        assert vocabulary.decode(labels) == text
        assert {tokenizer.pad_token_id, tokenizer.unk_token_id}.isdisjoint(labels)
    assert vocabulary.unknown("hello ßorld é") == ["ß", "é"]
    with pytest.raises(TextError, match=r"'ß' U\+00DF"):
        vocabulary.encode("ß")
    tokenizer.save_pretrained(tmp_path / "pieces")
    config = ModelConfig(
        init="conformer-mini", tokenizer=str(tmp_path / "pieces"), overrides=TINY["conformer"].overrides
    )
    backbone = load_backbone(config, seed=0)
    assert backbone.module.config.vocab_size == len(tokenizer)
    backbone.save(tmp_path / "model")
    loaded = load_folder(tmp_path / "model")
    assert loaded.vocabulary.encode("hello world") == vocabulary.encode("hello world")
    path = torch.tensor(vocabulary.encode("hello")).repeat_interleave(2)
    logits = 10.0 * nn.functional.one_hot(path, len(tokenizer)).float()[None]
    spelt = loaded.search(type(loaded.emit(loaded.features(AUDIO[:1]), SAMPLES[:1]))(logits, [len(path)]))
    assert spelt[0][0].text.replace("l", "") == "heo"


def test_a_vocabulary_that_cannot_hold_the_characters():
    with pytest.raises(ConfigError, match="cannot hold the 22 characters"):
        train_tokenizer(TEXTS, "bpe", 10)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"hidden_sise": 8}, "hidden_sise is not a field of ParakeetCTCConfig"),
        ({"encoder_config": {"hidden_sise": 8}}, "encoder_config.hidden_sise is not a field of ParakeetEncoderConfig"),
    ],
)
def test_fields_that_transformers_would_keep_in_silence(overrides, message):
    with pytest.raises(ModelError, match=message):
        load_backbone(ModelConfig(init="conformer-mini", overrides=overrides), seed=0)
