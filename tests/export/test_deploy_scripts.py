"""The scripts of docs/deploy.md, with models that are tiny: the service answers, the table has its rows."""

import http.client
import io
import json
import socket
import sys
import threading
from dataclasses import replace
from importlib.util import find_spec
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from audio_lottery import pruning
from audio_lottery.errors import ConfigError
from audio_lottery.models.load import load_backbone
from audio_lottery.settings import named_corpus
from audio_lottery.sparse.format import save
from audio_lottery.transcribe import Recogniser
from tests.conftest import write_jsonl_corpus
from tests.export.test_export import TINY, audio, needs, sparse
from tests.models.test_transducer import bursts, lively
from tests.script_module import script

# wide enough for an int8 of CTranslate2's to be smaller
WHISPER = replace(
    TINY["whisper"],
    overrides=TINY["whisper"].overrides
    | {"d_model": 64, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "init_std": 0.3},
)


def whisper():
    """One that is loud enough to say something, with zeros."""
    backbone = load_backbone(WHISPER, seed=2)
    pruning.apply(pruning.prune(backbone.module, 0.2, allocation="uniform"), backbone.module)
    backbone.module.eval()
    return backbone


def spy(measure, seen: list):
    """``measure``, and its contestants in ``seen``."""

    def both(contestants, *rest):
        measure(contestants, *rest)
        seen.extend(contestants)

    return both


@pytest.fixture(scope="module")
def recogniser():
    return Recogniser(sparse("conformer"), threads=1)


@pytest.fixture(scope="module")
def port(recogniser):
    with script("serve").Service(("127.0.0.1", 0), recogniser) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        yield service.server_address[1]
        service.shutdown()


def ask(port: int, method: str, body: bytes | None = None, headers: dict | None = None) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, "/", body, headers or {})
    response = connection.getresponse()
    return response.status, json.loads(response.read())


def test_a_recording_of_another_rate_is_answered_with_its_words(port, recogniser):
    samples = np.repeat(audio(1.0)[0], 2)[:, None].repeat(2, 1)
    file = io.BytesIO()
    soundfile.write(file, samples, 32_000, format="FLAC")
    status, found = ask(port, "POST", file.getvalue())
    again, rate = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    assert (status, found["text"]) == (200, recogniser.transcribe(again, sample_rate=rate).text)
    assert ask(port, "GET") == (200, {"ready": True})


@pytest.mark.parametrize(
    ("body", "headers", "status", "complaint"),
    [
        (b"no audio", {}, 400, "Format not recognised"),
        (b"", {}, 400, "Format not recognised"),
        (None, {"Content-Length": "999999999"}, 413, "at most"),
        (None, {"Content-Length": "x"}, 413, "at most"),
    ],
)
def test_what_is_no_recording_is_answered_with_an_error(port, body, headers, status, complaint):
    answered, found = ask(port, "POST", body, headers)
    assert answered == status
    assert complaint in found["error"]


def live(recogniser: Recogniser, data: bytes) -> list[dict]:
    with script("serve").LiveService(("127.0.0.1", 0), recogniser) as service:
        threading.Thread(target=service.serve_forever, daemon=True).start()
        with socket.create_connection(service.server_address, timeout=60) as speaker:
            speaker.sendall(data)
            speaker.shutdown(socket.SHUT_WR)
            lines = speaker.makefile().read().splitlines()
        service.shutdown()
    return [json.loads(line) for line in lines]


def test_speech_over_a_socket(recogniser):
    speech = (np.clip(bursts(32_000), -1, 1) * 32767).astype("<i2").tobytes()
    streaming = Recogniser(lively(TINY["transducer"], bidirectional=False), threads=1)
    found = live(streaming, speech)
    samples = np.frombuffer(speech, "<i2").astype(np.float32) / 32768
    assert " ".join(line["text"] for line in found if line["final"]) == streaming.transcribe(samples).text
    assert "cannot stream" in live(recogniser, speech)[0]["error"]


@needs("openvino")
def test_the_table_has_a_row_for_every_contestant(tiny_corpus, tmp_path, monkeypatch, capsys):
    backbone = sparse("conformer")
    backbone.save(tmp_path / "dense")
    save(backbone.module, tmp_path / "ticket", processor=backbone.processor)
    table = script("deploy_table")
    monkeypatch.setattr(table, "PRECISIONS", ("float32",))
    arguments = [str(tmp_path / "dense"), str(tmp_path / "ticket"), "--test", str(tiny_corpus / "test.jsonl")]
    monkeypatch.setattr(sys, "argv", ["deploy_table", *arguments, "--repeats", "1", "--json", str(tmp_path / "t.json")])
    table.main()
    written = json.loads((tmp_path / "t.json").read_text())
    titles = ["dense, torch float32", "dense, OpenVINO float32", "ticket, float32"]
    assert [row["contestant"] for row in written["rows"]] == titles
    assert len({row["wer"] for row in written["rows"]}) == 1
    by_title = {row["contestant"]: row for row in written["rows"]}
    assert all(row["peak_mib"] > row["libraries_mib"] > 10 and row["rtf"] > 0 for row in written["rows"])
    assert by_title[titles[1]]["libraries_mib"] < 0.5 * by_title[titles[0]]["libraries_mib"], "without torch"
    assert by_title[titles[2]]["bytes"] < by_title[titles[0]]["bytes"]
    printed = capsys.readouterr().out
    assert all(f"| {title} |" in printed for title in titles)
    assert "OpenVINO int8 is left out" in printed


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ctranslate2") is None, reason="ctranslate2 is not installed")
def test_the_table_of_a_whisper_has_ctranslate2_which_writes_what_torch_writes(tmp_path, monkeypatch, capsys):
    write_jsonl_corpus(tmp_path, "test", 3)
    backbone = whisper()
    backbone.save(tmp_path / "dense")
    save(backbone.module, tmp_path / "ticket", processor=backbone.processor)
    table = script("deploy_table")
    seen = []
    monkeypatch.setattr(table, "PRECISIONS", ("float32",))
    monkeypatch.setattr(table, "measure", spy(table.measure, seen))
    arguments = [str(tmp_path / "dense"), str(tmp_path / "ticket"), "--test", str(tmp_path / "test.jsonl")]
    monkeypatch.setattr(sys, "argv", ["deploy_table", *arguments, "--repeats", "1"])
    table.main()
    texts = {one.title: one.runs[0]["texts"] for one in seen}
    assert list(texts) == [
        "dense, torch float32",
        "dense, CTranslate2 float32",
        "dense, CTranslate2 int8",
        "ticket, float32",
    ]
    torch_wrote = texts["dense, torch float32"]
    assert texts["dense, CTranslate2 float32"] == texts["ticket, float32"] == torch_wrote
    assert any(torch_wrote)
    size = {one.title: one.bytes for one in seen}
    assert size["dense, CTranslate2 int8"] < 0.7 * size["dense, CTranslate2 float32"]
    libraries = {one.title: one.runs[0]["libraries"] for one in seen}
    assert libraries["dense, CTranslate2 int8"] < 0.5 * libraries["dense, torch float32"], "without torch"
    assert "WER by whisper_english" in capsys.readouterr().out


def test_numpy_hears_what_whisper_s_extractor_hears():
    backbone = whisper()
    extractor, window = backbone.processor.feature_extractor, backbone.features.window
    [samples] = audio(1.1)
    expected = backbone.features([samples])["input_features"][0].numpy()
    filters = extractor.mel_filters.astype(np.float32)
    found = script("deploy_worker").log_mel(samples, filters, extractor.n_fft, extractor.hop_length, window)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_speech_that_no_window_takes_is_left_out_and_counted(tiny_corpus, tmp_path):
    table, notes = script("deploy_table"), []
    corpus = named_corpus(str(tiny_corpus / "test.jsonl"), "--test")
    lengths = sorted(end - begin for begin, end in table.read_speech(corpus, tmp_path, None, notes).pieces)
    assert not notes
    heard = table.read_speech(corpus, tmp_path, lengths[-2] / 16_000, notes)
    assert max(end - begin for begin, end in heard.pieces) == lengths[-2]
    assert notes == [f"1 utterances are longer than {lengths[-2] / 16_000:g} s, and left out"]
    with pytest.raises(ConfigError, match="no utterance is as short as"):
        table.read_speech(corpus, tmp_path, 0.01, notes)


def test_windows_that_differ_are_refused(tmp_path):
    table = script("deploy_table")
    backbone = whisper()
    save(backbone.module, tmp_path / "ticket", processor=backbone.processor)
    other = load_backbone(replace(WHISPER, window=2.2), 0)
    options = SimpleNamespace(window=None, ticket=tmp_path / "ticket")
    with pytest.raises(ConfigError, match=r"MODEL hears windows of 2\.2 s and TICKET of 2\.5 s.*--window"):
        table.whisper_window(other, options)
    assert table.whisper_window(backbone, options) == {"window": 2.5, "longest": 1.5}
    assert table.whisper_window(sparse("conformer"), options) == {"window": None, "longest": None}


def test_the_normaliser_is_that_of_the_run(tmp_path):
    normalizer_of = script("deploy_table").normalizer_of
    assert normalizer_of(str(tmp_path / "round_00"), whisper()) == "whisper_english"
    assert normalizer_of(str(tmp_path / "round_00"), sparse("conformer")) == "basic"
    (tmp_path / "config.yaml").write_text("data: {normalizer: tedlium}")
    assert normalizer_of(str(tmp_path / "round_00"), whisper()) == "tedlium"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--test", "nothing"], "--test nothing is neither"),
        (["--test", "{test}", "--repeats", "0"], "--repeats 0"),
        (["--test", "{test}", "--threads", "0"], "--threads 0"),
        (["--test", "{test}"], r"model\.sparse\.safetensors is missing"),
    ],
)
def test_bad_options_of_the_table(arguments, complaint, tiny_corpus, tmp_path, monkeypatch):
    table = script("deploy_table")
    given = [one.format(test=tiny_corpus / "test.jsonl") for one in arguments]
    monkeypatch.setattr(sys, "argv", ["deploy_table", "no-model", str(tmp_path), *given])
    with pytest.raises(ConfigError, match=complaint):
        table.main()
