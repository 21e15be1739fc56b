"""``audio-lottery evaluate --stream``: a Hub set evaluated without being kept gives the numbers of one that is."""

import json

import pytest
from datasets import Audio, Dataset, Features, Value

from audio_lottery import cli
from audio_lottery.config import ModelConfig
from audio_lottery.data.corpora.jsonl import read
from audio_lottery.models.load import load_backbone
from tests.conftest import TINY_MODEL


@pytest.fixture
def parquet(tiny_corpus, tmp_path):
    """The tiny test set as a parquet speech set in the shape of the Hub's."""
    rows = [
        {"id": row.id, "audio": {"bytes": open(row.audio, "rb").read(), "path": None}, "text": row.text}  # noqa: SIM115
        for row in read(tiny_corpus, "test")
    ]
    plain = Features(
        id=Value("string"), audio={"bytes": Value("binary"), "path": Value("string")}, text=Value("string")
    )
    folder = tmp_path / "set" / "data"
    folder.mkdir(parents=True)
    dataset = Dataset.from_list(rows, features=plain).cast_column("audio", Audio(16_000, decode=False))
    dataset.to_parquet(folder / "test-00000-of-00001.parquet")
    return tmp_path / "set"


def test_streamed_and_kept_give_the_same_numbers(parquet, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUDIO_LOTTERY_CACHE", str(tmp_path / "cache"))
    backbone = load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL | {"initializer_range": 0.5}), 4)
    backbone.save(tmp_path / "model")
    corpus = json.dumps([{"corpus": "hub", "path": str(parquet), "split": "test"}])
    results = {}
    for name, extra in {"kept": [], "streamed": ["--stream"]}.items():
        arguments = [str(tmp_path / "model"), "--data.test", corpus, "--suites", "clean", "pink@5"]
        status = cli.main(["evaluate", *arguments, "--out", str(tmp_path / name), *extra])
        assert status == 0, capsys.readouterr().err
        results[name] = json.loads((tmp_path / name / "evaluation.json").read_text())["suites"]
    assert results["kept"] == results["streamed"]
    assert results["kept"]["pink5"]["utterances"] == 8


def test_only_hub_corpora_stream(tiny_corpus, tmp_path, capsys):
    load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), 4).save(tmp_path / "model")
    corpus = json.dumps([{"corpus": "jsonl", "path": str(tiny_corpus), "split": "test"}])
    assert cli.main(["evaluate", str(tmp_path / "model"), "--data.test", corpus, "--stream"]) == 2
    assert "jsonl test cannot be streamed" in capsys.readouterr().err
