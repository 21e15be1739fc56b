"""Transducers on disk: checkpoints as their makers publish them, vocabularies, what is refused."""

import json
import shutil

import pytest
import torch
from transformers import AutoProcessor, ParakeetFeatureExtractor, ParakeetForRNNT, ParakeetForTDT

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.load import family_of, load_backbone, load_folder
from audio_lottery.models.parakeet_transducer import ParakeetTransducer
from audio_lottery.models.tokenizers import train_tokenizer
from audio_lottery.models.transducer import Transducer
from tests.lottery.test_backbones import TINY
from tests.models.test_guests import TEXTS
from tests.models.test_transducer import AUDIO, LABELS, SAMPLES

ENCODER = TINY["parakeet_transducer"].overrides["encoder_config"] | {"num_mel_bins": 80, "dropout": 0.1}


@pytest.fixture(scope="module", params=[ParakeetForRNNT, ParakeetForTDT], ids=["rnnt", "tdt"])
def published(request, tmp_path_factory):
    """As nvidia's: word pieces, the blank behind them, a pad token that is neither it nor output 0."""
    folder = tmp_path_factory.mktemp("published")
    tokenizer = train_tokenizer(TEXTS, "bpe", 40)
    pieces = len(tokenizer)
    architecture = request.param.config_class(
        vocab_size=pieces + 1,
        blank_token_id=pieces,
        pad_token_id=2,
        decoder_hidden_size=16,
        num_decoder_layers=2,
        encoder_config=ENCODER,
    )
    torch.manual_seed(0)
    request.param(architecture).save_pretrained(folder)
    ParakeetFeatureExtractor().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_published_checkpoint_loads_trains_and_is_saved(published, tmp_path):
    backbone = load_folder(published)
    assert family_of(published) is ParakeetTransducer
    module = backbone.module
    assert module.config.encoder_config.layerdrop == 0
    labels = backbone.vocabulary.encode("hello world")
    assert module.config.blank_token_id not in labels
    inputs, samples = backbone.features(AUDIO[:1]), SAMPLES[:1]
    module.eval()
    target = torch.tensor(labels)
    ours = backbone.loss(inputs, samples, [target])
    started = torch.cat([torch.tensor([module.config.blank_token_id]), target])
    theirs = module(**inputs, decoder_input_ids=started[None], labels=target[None]).loss
    assert float(ours.detach()) / len(labels) == pytest.approx(float(theirs.detach()), rel=1e-5)
    ours.sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    backbone.save(tmp_path / "saved")
    again = load_folder(tmp_path / "saved")
    module.eval(), again.module.eval()
    with torch.no_grad():
        assert torch.equal(again.emit(inputs, samples).values, backbone.emit(inputs, samples).values)
        assert again.search(again.emit(inputs, samples)) == backbone.search(backbone.emit(inputs, samples))
    assert type(AutoProcessor.from_pretrained(tmp_path / "saved").tokenizer) is type(backbone.processor.tokenizer)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blank_token_id": 99}, "gives vocab_size 41 and blank_token_id 99; the blank of a transducer is one of its"),
        ({"blank_token_id": 5}, "has id 5, which is '.' in its tokenizer; get the tokenizer that belongs"),
    ],
)
def test_a_blank_that_cannot_be_one(published, tmp_path, change, message):
    folder = shutil.copytree(published, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=message):
        load_folder(folder)


def test_new_characters_get_a_new_embedding_and_output_layer(published):
    old = load_folder(published).module.state_dict()
    config = ModelConfig(str(published), reset_head=True, characters="abc")
    first, other = (load_backbone(config, seed) for seed in (1, 2))
    assert first.module.config.vocab_size == len(first.processor.tokenizer)
    state, second = first.module.state_dict(), other.module.state_dict()
    drawn = {name for name, tensor in state.items() if not torch.equal(tensor, second[name])}
    assert drawn == {"decoder.embedding.weight", "joint.head.weight"}
    assert all(torch.equal(tensor, old[name]) for name, tensor in state.items() if not name.startswith(HEADS))
    assert first.loss(first.features(AUDIO[:1]), SAMPLES[:1], [LABELS[0]]).isfinite().all()


HEADS = ("decoder.embedding", "joint.head")


def test_the_lstm_transducer_with_word_pieces(tmp_path):
    train_tokenizer(TEXTS, "unigram", 40).save_pretrained(tmp_path / "pieces")
    config = ModelConfig("rnnt-mini", tokenizer=str(tmp_path / "pieces"), overrides=TINY["transducer"].overrides)
    backbone = load_backbone(config, 0)
    backbone.save(tmp_path / "model")
    loaded = load_folder(tmp_path / "model")
    assert type(loaded) is Transducer
    text = "hello world it's me"
    labels = loaded.vocabulary.encode(text)
    assert loaded.spell(labels) == text
    losses = [
        float(one.loss(one.features(AUDIO[:1]), SAMPLES[:1], [torch.tensor(labels)]).detach())
        for one in (backbone, loaded)
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"time_reductoin": [2]}, "time_reductoin is not a field of TransducerConfig"),
        (
            {"time_reduction": [2, 2, 2, 2]},
            "time_reduction .* must be whole numbers of 1 or more, one for each of 3 layers",
        ),
        ({"time_reduction": [0]}, "time_reduction"),
    ],
)
def test_overrides_that_do_not_go_together(overrides, message):
    with pytest.raises(ModelError, match=message):
        load_backbone(ModelConfig("rnnt-mini", overrides=overrides), 0)
