"""``audio-lottery tune-decoder`` as users run it, and its settings read back."""

import gzip
import json
import re
from pathlib import Path

import pytest
import yaml

pytest.importorskip("flashlight.lib.text")

from audio_lottery.config import ModelConfig
from audio_lottery.models.load import load_backbone
from audio_lottery.settings import parse_config
from tests.conftest import TINY_MODEL, WORDS, tiny_settings, write_jsonl_corpus

ARPA = "\n".join(
    [
        "\\data\\",
        f"ngram 1={len(WORDS) + 3}",
        "ngram 2=1",
        "",
        "\\1-grams:",
        "-2\t<unk>",
        "-99\t<s>",
        "-0.6\t</s>",
        *(f"-0.{index + 5}\t{word.upper()}\t-0.1" for index, word in enumerate(WORDS)),
        "",
        "\\2-grams:",
        "-0.3\tONE TWO",
        "",
        "\\end\\",
        "",
    ]
)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), seed=3).save(folder)
    return folder


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    root = tmp_path / "corpus"
    for name in ("train", "dev", "test"):
        write_jsonl_corpus(root, name, 3)
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(tiny_settings(root, tmp_path / "run")))
    return path


def test_writes_settings_that_config_reads(tmp_path, settings, checkpoint, command_line):
    lm = tmp_path / "lm.arpa.gz"
    lm.write_bytes(gzip.compress(ARPA.encode()))
    out = tmp_path / "out" / "decoder.yaml"
    result = command_line(
        *("tune-decoder", str(checkpoint), "--config", str(settings), "--lm", "lm.arpa.gz", "--lm-weights", "0.5,2"),
        *("--word-scores", "-1,2", "--processes", "1", "--out", str(out)),
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    grid = json.loads((tmp_path / "out" / "decoder_grid.json").read_text())
    assert f"greedy: {100 * grid['greedy_wer']:.2f} %, beam search: {100 * grid['best']['wer']:.2f} %" in result.stdout
    pairs = {(point["lm_weight"], point["word_score"]): point["wer"] for point in grid["grid"]}
    assert {(0.5, -1.0), (0.5, 2.0), (2.0, -1.0), (2.0, 2.0)} < set(pairs)
    assert min(pairs.values()) == grid["best"]["wer"]
    assert "lm=lm.arpa.gz sha256:" in grid["decoder"]
    decoder = parse_config(["--config", str(settings), "--config", str(out)]).evaluation.decoder
    assert (decoder.kind, decoder.lm, decoder.lexicon) == ("beam", str(lm), None)
    assert (decoder.lm_weight, decoder.word_score) == (grid["best"]["lm_weight"], grid["best"]["word_score"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "needs a language model: --lm FILE"),
        (["--lm", "nowhere.arpa"], "there is no file"),
        (["--lm", "cyrillic.arpa"], "5 of 6 words hold characters that the model does not have"),
        (["--lm", "lm.arpa", "--lm-weights", "1;2"], "--lm-weights is '1;2'"),
        (["--lm", "lm.arpa", "--lm-weights", "-1,2"], "--lm-weights holds -1"),
        (["--lm", "lm.arpa", "--word-scores", "0,inf"], "every number must be finite"),
        (["--lm", "lm.arpa", "--processes", "0"], "--processes is 0"),
        (["--lm", "lm.arpa", "--out", "decoder.json"], "must be a .yaml file"),
        (["--lm", "lm.arpa", "--beam", "3"], "--help lists all of them"),
        (["--lm", "lm.arpa", "--data.dev", "[]"], "data.dev names no corpus"),
    ],
)
def test_mistakes(tmp_path, settings, checkpoint, monkeypatch, arguments, message):
    from audio_lottery.commands.tune_decoder import main
    from audio_lottery.errors import AudioLotteryError

    (tmp_path / "lm.arpa").write_text(ARPA)
    (tmp_path / "cyrillic.arpa").write_text(re.sub("ONE|TWO|THREE|FOUR|NO", lambda word: "ж" * len(word[0]), ARPA))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AudioLotteryError) as error:
        main([str(checkpoint), "--config", str(settings), *arguments])
    assert message in str(error.value)
    assert not list(tmp_path.glob("decoder*"))
