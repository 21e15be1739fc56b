"""The blank and every token lie within the model's outputs, or one line names what does not."""

import json
import string

import pytest
import torch
from tokenizers import Tokenizer, decoders
from tokenizers.models import WordLevel
from transformers import AutoConfig, ParakeetTokenizer, PreTrainedTokenizerFast

from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.evaluation.decoding import GreedyDecoder
from audio_lottery.models.base import Emission
from audio_lottery.models.load import load_backbone, load_trained
from audio_lottery.models.vocabulary import settle_outputs
from tests.models.test_checkpoint import pattern, remove, reweight, update

# As in the example that many checkpoints were fine-tuned by: 30 outputs, the blank is the last.
LETTERS = {letter: index for index, letter in enumerate("'" + string.ascii_lowercase)}
BLOG = LETTERS | {"|": 27, "[UNK]": 28, "[PAD]": 29}
NAMES = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
NO_SENTENCE = {"bos_token": None, "eos_token": None}


def vocabulary(folder, tokens, names, pad_token_id=29):
    """Give a checkpoint of 30 outputs another tokenizer."""
    (folder / "vocab.json").write_text(json.dumps(tokens))
    settings = {"tokenizer_class": "Wav2Vec2CTCTokenizer"} | names
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    update("config.json", pad_token_id=pad_token_id)(folder)
    return str(folder)


def swapped(first, second):
    return {first: BLOG[second], second: BLOG[first]}


# tokenizer, pad_token_id of the model, the blank
KNOWN = {
    "as in the example": (BLOG, NAMES, 29, 29),  # <s> and </s> lie beyond, at 30 and 31
    "no pad token named": (BLOG, {}, 29, 29),
    "pad token is null": (BLOG, {"unk_token": "[UNK]", "pad_token": None}, 29, 29),
    "another name": (LETTERS | {"|": 27, "<unk>": 28, "<blank>": 29}, {}, 29, 29),
    "blank first": (BLOG | swapped("'", "[PAD]"), NAMES, 0, 0),
    "blank first, not named": (BLOG | swapped("'", "[PAD]"), {}, 0, 0),
    "blank in the middle": (BLOG | swapped("m", "[PAD]"), NAMES, 13, 13),
    "model names none": (BLOG, NAMES, None, 29),
    "model names an id beyond": (BLOG, NAMES, 99, 29),
    "model names -1": (BLOG, NAMES, -1, 29),
}


@pytest.mark.parametrize(("tokens", "names", "trained", "blank"), KNOWN.values(), ids=KNOWN)
def test_the_blank_is_known_and_never_written(folder, tmp_path, tokens, names, trained, blank):
    backbone = load_trained(ModelConfig(init=vocabulary(folder, tokens, names, trained)))
    assert backbone.blank == backbone.module.config.pad_token_id == blank
    assert backbone.module.config.vocab_size == 30
    for index in range(30):
        frames = torch.tensor([[tokens["a"], blank, tokens["b"], index, blank, tokens["c"], tokens["c"]]])
        logits = torch.nn.functional.one_hot(frames, 30).float()
        text = GreedyDecoder(backbone)(Emission(logits, [7]))[0][0].text
        assert text.startswith("ab")
        assert text.endswith("c")
        assert "PAD" not in text
        assert "blank" not in text
    backbone.save(tmp_path / "again")
    assert load_trained(ModelConfig(init=str(tmp_path / "again"))).blank == blank


UNKNOWN = {
    "none named": (
        *(BLOG, {}, 0),
        "which output of ... is the CTC blank is not known: the pad token of its tokenizer is '<pad>' (id 33), the "
        "pad_token_id of its config.json is 0 ('''), and the model has 30 outputs (0 to 29); correct pad_token in "
        'tokenizer_config.json (as "pad_token": "[PAD]") or pad_token_id in config.json',
    ),
    "none at all": (
        *(LETTERS | {"|": 27, "-": 28, ".": 29}, {"pad_token": None}, None),
        "the pad token of its tokenizer is none, the pad_token_id of its config.json is none, and the model has 30 "
        "outputs (0 to 29); correct pad_token in tokenizer_config.json or pad_token_id in config.json",
    ),
    "both beyond": (
        BLOG,
        {},
        99,
        "is '<pad>' (id 33), the pad_token_id of its config.json is 99, and the model has 30",
    ),
    "two blanks": (BLOG, NAMES, 0, "is '[PAD]' (id 29), the pad_token_id of its config.json is 0 ('''), and"),
    "a letter": (BLOG, {}, 5, "is '<pad>' (id 33), the pad_token_id of its config.json is 5 ('e'), and"),
    "larger tokenizer": (
        *(BLOG | {"é": 30, "ü": 31}, NAMES, 29),
        "the token 'é' of ... has id 30, but the model has 30 outputs (0 to 29); get the tokenizer that belongs to the "
        "weights, or train a new output layer with --model.reset_head true",
    ),
    "no delimiter": (
        *({token: index for token, index in BLOG.items() if token != "|"} | {"-": 27}, NAMES, 29),
        "the word delimiter '|' of ... has id 32, but the model has 30 outputs (0 to 29)",
    ),
    "smaller tokenizer": (
        *({token: index for token, index in BLOG.items() if index != 5}, {"pad_token": "[PAD]", "unk_token": None}, 29),
        "has no token for 1 of the model's 30 outputs (0 to 29), the first is 5; get the tokenizer that belongs to the",
    ),
    "one id for two": (BLOG | {"é": 5}, NAMES, 29, "the vocabulary of ... gives 'e' and 'é' the same id, 5"),
    "id as text": (BLOG | {"e": "5"}, NAMES, 29, "the vocabulary of ... gives 'e' the id '5'; ids are 0, 1, 2 "),
    "negative id": (BLOG | {"e": -5}, NAMES, 29, "the vocabulary of ... gives 'e' the id -5; ids are 0, 1, 2 "),
    "no characters": ({}, {}, 3, "the vocabulary of ... has no characters; get the one that belongs to the weights"),
}


@pytest.mark.parametrize(("tokens", "names", "trained", "line"), UNKNOWN.values(), ids=UNKNOWN)
def test_a_tokenizer_that_does_not_fit_is_one_line(folder, tokens, names, trained, line):
    with pytest.raises(ModelError, match=pattern(line)):
        load_trained(ModelConfig(init=vocabulary(folder, tokens, names, trained)))


def test_outputs_without_a_token_are_told(folder, caplog):
    tokens = {token: index for token, index in BLOG.items() if index != 5}
    backbone = load_trained(ModelConfig(init=vocabulary(folder, tokens, NAMES)))
    assert "has no token for 1 of the model's 30 outputs (0 to 29), the first is 5: they read as [UNK]" in caplog.text
    assert backbone.processor.decode([1, 5, 2]) == "a[UNK]b"


@pytest.mark.parametrize("names", [NAMES, {}])
def test_overrides_say_which_blank_it_is_before_a_training(folder, names):
    init = vocabulary(folder, BLOG, names, pad_token_id=0)
    assert load_backbone(ModelConfig(init=init, overrides={"pad_token_id": 29}), 0).blank == 29


CTC_WITHOUT_TOKENIZER = (
    r"is a CTC model without a tokenizer, so nothing says what its outputs mean; copy vocab\.json and "
    r"tokenizer_config\.json from where it was trained, or train a new output layer with --model\.reset_head true$"
)


@pytest.mark.parametrize("load", [load_trained, lambda source: load_backbone(source, 0, new_head=True)])
@pytest.mark.parametrize("head", [True, False])
def test_outputs_without_a_meaning_are_an_error(folder, load, head):
    remove("vocab.json", "tokenizer_config.json")(folder)
    if not head:
        reweight(lambda weights: {n: t for n, t in weights.items() if not n.startswith("lm_head")})(folder)
    with pytest.raises(ModelError, match=CTC_WITHOUT_TOKENIZER):
        load(ModelConfig(init=str(folder)))


@pytest.mark.parametrize("change", [{"reset_head": True}, {"random_init": True}])
def test_a_new_output_layer_means_the_characters(folder, change):
    remove("vocab.json", "tokenizer_config.json")(folder)
    backbone = load_backbone(ModelConfig(init=str(folder), characters="abc", **change), 0)
    assert backbone.module.lm_head.weight.shape == (6, 32)
    assert backbone.processor.tokenizer.get_vocab().keys() == {"<pad>", "<unk>", "|", "a", "b", "c"}


def bare(folder, tokens, names):
    reweight(lambda weights: {n: t for n, t in weights.items() if not n.startswith("lm_head")})(folder)
    vocabulary(folder, tokens, names, pad_token_id=0)
    update("config.json", architectures=["Wav2Vec2ForPreTraining"], vocab_size=32)(folder)
    return load_backbone(ModelConfig(init=str(folder)), 0, new_head=True)


# vocabulary, names, outputs, blank of the new layer
NEW = {
    "as in the example": (BLOG, NAMES, 32, 29),
    "no sentences": (BLOG, NAMES | NO_SENTENCE, 30, 29),
    "nothing but letters": (LETTERS, {}, 32, 30),  # the pad token is put behind them
    "holes": ({"[PAD]": 0, "[UNK]": 1, "|": 4, "a": 9}, NAMES | NO_SENTENCE, 10, 0),
}


@pytest.mark.parametrize(("tokens", "names", "outputs", "blank"), NEW.values(), ids=NEW)
def test_a_new_layer_has_an_output_for_every_token(folder, tmp_path, tokens, names, outputs, blank):
    backbone = bare(folder, tokens, names)
    assert backbone.module.lm_head.weight.shape == (outputs, 32)
    assert max(backbone.processor.tokenizer.get_vocab().values()) == outputs - 1
    assert backbone.blank == backbone.module.config.pad_token_id == blank
    backbone.save(tmp_path / "again")
    assert load_trained(ModelConfig(init=str(tmp_path / "again"))).blank == blank


@pytest.mark.parametrize("names", [{}, {"pad_token": None, "unk_token": "[UNK]"}])
def test_a_new_layer_is_not_given_a_second_blank(folder, names):
    line = r'names no pad token of its vocabulary, which is the CTC blank; add .* \(as "pad_token": "\[PAD\]"\)$'
    with pytest.raises(ModelError, match=line):
        bare(folder, BLOG, names)


def word_pieces(kind):
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁a", "b", "c"]
    backend = Tokenizer(WordLevel({piece: index for index, piece in enumerate(pieces)}, unk_token="<unk>"))
    backend.decoder = decoders.Metaspace()
    return kind(tokenizer_object=backend, bos_token="<s>", pad_token="<pad>", eos_token="</s>", unk_token="<unk>")


def test_the_blank_of_omniasr_is_not_what_it_pads_with():
    architecture, tokenizer = AutoConfig.for_model("omniasr_ctc", vocab_size=7), word_pieces(ParakeetTokenizer)
    assert (architecture.blank_token_id, architecture.pad_token_id) == (0, 1)
    settle_outputs(architecture, tokenizer, "model", is_ctc=True)
    assert (tokenizer.pad_token_id, architecture.blank_token_id, architecture.pad_token_id) == (0, 0, 1)
    assert tokenizer.decode([4, 4, 0, 5, 0, 5, 6]) == "abbc"


def test_a_tokenizer_of_another_kind_of_model_is_refused():
    architecture = AutoConfig.for_model("wav2vec2", vocab_size=7, pad_token_id=1)
    settle_outputs(architecture, word_pieces(ParakeetTokenizer), "model", is_ctc=True)
    line = "of 'model' does not decode CTC outputs (it does not merge repeats and leave out blanks); use a model with a"
    with pytest.raises(ModelError, match=pattern(line)):
        settle_outputs(architecture, word_pieces(PreTrainedTokenizerFast), "model", is_ctc=True)


def test_a_vocabulary_of_many_languages_is_that_of_the_named_one(folder):
    """As facebook/mms-1b-all has it: tokens of other languages may have ids of this one's."""
    other = {"[PAD]": 0, "[UNK]": 1, "|": 2, "ch": 3, "á": 4}
    init = vocabulary(folder, {"eng": BLOG, "ces": other}, NAMES | {"target_lang": "eng"})
    backbone = load_trained(ModelConfig(init=init))
    assert backbone.blank == 29
    assert backbone.processor.decode([3, 3, 29, 4]) == "cd"
