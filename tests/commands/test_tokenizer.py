"""``audio-lottery prepare tokenizer``: from transcripts to a folder that a recogniser is built on."""

import pytest

from audio_lottery.cli import main
from audio_lottery.config import ModelConfig
from audio_lottery.models.load import load_backbone


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_a_recogniser_is_built_on_it(tiny_corpus, tmp_path, capsys, kind):
    out = tmp_path / "pieces"
    source = ["--corpus", "jsonl", "--split", "train.jsonl", "dev.jsonl", "--root", str(tiny_corpus)]
    main(["prepare", "tokenizer", *source, "--kind", kind, "--size", "40", "--out", str(out)])
    assert f"--model.tokenizer {out}" in capsys.readouterr().out
    backbone = load_backbone(ModelConfig(init="conformer-mini", tokenizer=str(out)), seed=1)
    labels = backbone.vocabulary.encode("one two")
    assert 0 not in labels
    assert max(labels) < backbone.module.config.vocab_size <= 40


def test_too_few_pieces_are_one_line(tiny_corpus, tmp_path, capsys):
    source = ["--corpus", "jsonl", "--split", "train.jsonl", "--root", str(tiny_corpus)]
    assert main(["prepare", "tokenizer", *source, "--size", "4", "--out", str(tmp_path / "pieces")]) == 2
    assert "a vocabulary of 4 pieces cannot hold" in capsys.readouterr().err
    assert not (tmp_path / "pieces").exists()
