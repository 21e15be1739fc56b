"""The processor: ids that follow the characters alone, and survive saving."""

from pathlib import Path

import pytest
from transformers import AutoProcessor, Wav2Vec2Processor

from audio_lottery.errors import ConfigError
from audio_lottery.models.characters import DEFAULT_CHARACTERS, CharacterVocabulary, build_processor


@pytest.fixture(scope="module")
def processor() -> Wav2Vec2Processor:
    return build_processor(DEFAULT_CHARACTERS)


def test_ids_follow_the_characters(processor: Wav2Vec2Processor) -> None:
    expected = {"<pad>": 0, "<unk>": 1, "|": 2} | {c: i for i, c in enumerate(DEFAULT_CHARACTERS, start=3)}
    assert processor.tokenizer.get_vocab() == expected
    assert len(processor.tokenizer) == processor.tokenizer.vocab_size == 30
    assert processor.tokenizer.pad_token_id == 0
    assert processor.tokenizer.bos_token is None
    assert processor.tokenizer.eos_token is None
    assert build_processor(DEFAULT_CHARACTERS).tokenizer.get_vocab() == expected


@pytest.mark.parametrize("loader", [AutoProcessor, Wav2Vec2Processor])
@pytest.mark.parametrize(("do_normalize", "mask"), [(True, True), (False, False)])
def test_processor_survives_saving(tmp_path: Path, loader: type, do_normalize: bool, mask: bool) -> None:
    built = build_processor("abcé'", do_normalize=do_normalize, return_attention_mask=mask)
    built.save_pretrained(tmp_path)
    loaded = loader.from_pretrained(tmp_path)
    assert isinstance(loaded, Wav2Vec2Processor)
    assert loaded.tokenizer.get_vocab() == built.tokenizer.get_vocab()
    assert len(loaded.tokenizer) == len(built.tokenizer) == 8
    assert loaded.tokenizer.special_tokens_map == built.tokenizer.special_tokens_map
    assert loaded.feature_extractor.to_dict() == built.feature_extractor.to_dict()
    assert loaded.feature_extractor.sampling_rate == 16_000
    assert CharacterVocabulary.from_processor(loaded).encode("a b'é") == CharacterVocabulary.from_processor(
        built
    ).encode("a b'é")
    assert loaded.tokenizer.decode([3, 3, 0, 3, 2, 4, 0]) == built.tokenizer.decode([3, 3, 0, 3, 2, 4, 0]) == "aa b"


@pytest.mark.parametrize(
    ("characters", "message"), [("", "is empty"), ("abca", "repeats 'a'"), ("ab ", r"U\+0020"), ("a|", r"'\|'")]
)
def test_impossible_characters(characters: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_processor(characters)
