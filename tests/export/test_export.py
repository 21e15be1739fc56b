"""Models on other runtimes: the same outputs, the same zeros, the same text; and what is refused."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from audio_lottery import pruning
from audio_lottery.commands.export import main, speech
from audio_lottery.config import ModelConfig
from audio_lottery.errors import AudioError, ConfigError, CorpusError, ModelError
from audio_lottery.export import TARGETS, Target, export, recognise, target, write
from audio_lottery.export.recognise import Recogniser
from audio_lottery.export.zeros import check_zeros
from audio_lottery.models.front_end import front_end
from audio_lottery.models.load import load_backbone
from audio_lottery.sparse.format import save
from audio_lottery.transcribe import Recogniser as Torch
from tests.conftest import TINY_MODEL
from tests.lottery.test_backbones import TINY as TINY_OTHERS
from tests.models.architectures import ARCHITECTURES

TINY = TINY_OTHERS | {"wav2vec2": ModelConfig(init="w2v2-mini", overrides=TINY_MODEL)}
GRAPHS = ["conformer", "cnn_lstm", "wav2vec2"]
INSTALLED = {name: not any(importlib.util.find_spec(p) is None for p in one.packages) for name, one in TARGETS.items()}


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not INSTALLED[name], reason=f"the packages of --to {name} are not installed")


def sparse(name: str, density: float = 0.3):
    """A tiny model that is loud enough to say something, with zeros."""
    backbone = load_backbone(TINY[name], 0)
    for parameter in backbone.module.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(4.0)
    pruning.apply(pruning.prune(backbone.module, density), backbone.module)
    backbone.module.eval()
    return backbone


def audio(*seconds: float) -> list[np.ndarray]:
    return [
        np.random.default_rng(number).normal(0.02, 0.2, round(16_000 * one)).astype(np.float32)
        for number, one in enumerate(seconds)
    ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    sparse("conformer").save(folder)
    return folder


@pytest.mark.parametrize("family", GRAPHS)
@pytest.mark.parametrize("to", [pytest.param(name, marks=needs(name)) for name in TARGETS])
def test_outputs_zeros_and_text_are_those_of_torch(to, family, tmp_path):
    backbone = sparse(family)
    done = export(backbone, to, tmp_path / "out")
    assert [trial.fault for trial in done.trials] == [""] * 4
    assert done.zeros.exported == done.zeros.zeros > 0.5 * done.zeros.weights
    # lengths, and numbers of utterances, that the export never saw
    utterances = audio(0.37, 1.63, 3.1, 1.0, 1.68)
    exported = Recogniser(tmp_path / "out")
    torch_reads = Torch(backbone, accelerate=False)
    for samples in utterances:
        assert exported.text(samples) == torch_reads.transcribe(samples).text != ""
    logits, frames = exported.run(exported.inputs(utterances))
    expected = backbone.emit(backbone.features(utterances), torch.tensor([len(one) for one in utterances]))
    assert frames.tolist() == expected.frames
    for row, other, count in zip(logits, expected.values.detach().numpy(), expected.frames, strict=True):
        np.testing.assert_allclose(row[:count], other[:count], atol=2e-3 * other.std())
    assert exported.text(np.zeros(10, np.float32)) == ""


@pytest.mark.parametrize("row", ARCHITECTURES, ids=lambda row: row.id)
def test_features_without_transformers(row, tmp_path):
    """numpy's features are those of the extractor, wherever the description claims to be whole."""
    extractor = row.backbone().processor.feature_extractor
    front = front_end(extractor)
    if front.kind == "extractor":
        assert type(extractor).__name__ in front.steps[0]
        return
    samples = audio(0.8)[0]
    tables = {name: table.numpy() for name, table in front.tables.items()}
    if front.kind == "waveform":
        found = recognise._waveform(samples, front.settings)
    else:
        found = recognise._spectrum(samples, front.settings, tables)
    given = row.backbone().features([samples])
    expected = given[extractor.model_input_names[0]][0].numpy()[: len(found)]
    np.testing.assert_allclose(found, expected, atol=2e-4)


@needs("onnx")
def test_the_folder_runs_by_itself(checkpoint, tmp_path):
    """recognise.py needs no torch, transformers or audio_lottery; a compact file is exported as a dense one."""
    backbone = sparse("conformer")
    save(backbone.module, tmp_path / "compact", processor=backbone.processor)
    main([str(tmp_path / "compact"), str(tmp_path / "out"), "--to", "onnx"])
    samples = audio(1.2)[0]
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    program = (
        "import sys, runpy; sys.modules.update(dict.fromkeys(['torch', 'transformers', 'audio_lottery']));"
        "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out" / "recognise.py")]
    shown = subprocess.run([*command, str(tmp_path / "a.wav")], capture_output=True, text=True, check=False, cwd="/")
    expected = Torch(backbone, accelerate=False).transcribe(samples).text
    assert shown.stdout == f"{tmp_path / 'a.wav'}\t{expected}\n", shown.stderr
    about = json.loads((tmp_path / "out" / "recogniser.json").read_text())
    assert about["sample_rate"] == 16_000
    assert [given["name"] for given in about["inputs"]] == ["input_features", "attention_mask"]
    assert about["pieces"][about["blank"]] == ""
    assert about["frame_seconds"] == pytest.approx(0.04)
    assert about["versions"].keys() >= {"audio_lottery", "torch", "transformers", "onnxruntime"}


@needs("openvino")
@pytest.mark.skipif(importlib.util.find_spec("nncf") is None, reason="nncf is not installed")
def test_int8_is_fitted_to_speech_and_keeps_zeros(checkpoint, tiny_corpus, tmp_path, capsys):
    fitted = ["--precision", "int8", "--calibration", str(tiny_corpus / "dev.jsonl"), "--utterances", "4"]
    main([str(checkpoint), str(tmp_path / "out"), "--to", "openvino", *fitted])
    about = json.loads((tmp_path / "out" / "recogniser.json").read_text())
    assert about["zeros"]["exported"] >= about["zeros"]["zeros"]
    assert len(about["zeros"]["changed"]) > 5
    assert any(values.dtype == np.int8 for values in TARGETS["openvino"].constants(tmp_path / "out" / "model.xml"))
    assert "in the file" in capsys.readouterr().out


def test_an_earlier_export_is_replaced_only_when_asked_and_nothing_else_ever(checkpoint, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    write.check_folder(folder, force=False)
    (folder / "notes.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(ConfigError, match="is no earlier export"):
            write.check_folder(folder, force)
    (folder / write.DESCRIPTION).write_text("{}")
    with pytest.raises(ConfigError, match="--force"):
        write.check_folder(folder, force=False)
    write.check_folder(folder, force=True)


@pytest.fixture
def stand_in(monkeypatch):
    """A target whose ways of writing are given: for what goes wrong in exporters, which real ones rarely show."""

    def add(**routes):
        monkeypatch.setitem(TARGETS, "toy", Target("model.toy", (), routes, lambda file: iter(())))

    return add


@needs("onnx")
def test_a_way_that_is_wrong_is_not_taken(checkpoint, tmp_path, monkeypatch, caplog):
    """The first way writes another model, the second the right one."""

    def wrong(graph, names, inputs, file, calibration):
        other = load_backbone(TINY["conformer"], 7)
        target.write_onnx(other.graph().eval(), names, inputs, file, calibration)

    routes = {"wrong": wrong, "torch": target.write_onnx}
    monkeypatch.setitem(TARGETS, "onnx", Target("model.onnx", ("onnx",), routes, target.onnx_constants))
    with caplog.at_level("INFO"):
        done = export(sparse("conformer"), "onnx", tmp_path / "out")
    assert done.route == "torch"
    assert "a logit differs by" in caplog.text


def test_nothing_is_left_of_an_exporter_that_fails(stand_in, tmp_path):
    def fail(graph, names, inputs, file, calibration):
        file.write_text("half")
        raise RuntimeError("unknown operator 'x'\nmuch more")

    stand_in(only=fail)
    with pytest.raises(ModelError, match=r"cannot be exported to toy; by way of only: unknown operator 'x'$"):
        export(sparse("conformer"), "toy", tmp_path / "out")
    assert not list(tmp_path.iterdir())


MATRIX = torch.tensor([[1.0, 0.0, 2.0], [0.0, 0.0, 3.0]])


@pytest.mark.parametrize(
    ("constants", "rounded", "changed"),
    [
        ([MATRIX.numpy()], False, ()),
        ([MATRIX.numpy().T], False, ()),
        ([MATRIX.numpy()[::-1]], False, ()),  # gates in another order
        ([np.ones((2, 3), np.float32), MATRIX.numpy() * 0.5], False, ("w",)),  # a norm is in it
        ([np.array([[9, 0, 0], [0, 0, 9]], np.int8)], True, ("w",)),  # rounded to zero
        ([np.array([[0, 0, 0], [9, 9, 0]], np.int8)], True, ("w",)),  # and in another order
    ],
)
def test_a_matrix_is_found_with_its_zeros(constants, rounded, changed):
    found = check_zeros({"w": MATRIX}, constants, rounded=rounded)
    assert (found.matrices, found.weights, found.zeros, found.changed) == (1, 6, 3, changed)


def test_equal_matrices_may_be_stored_once():
    assert check_zeros({"v": MATRIX, "w": -MATRIX * -1}, [MATRIX.numpy()], rounded=False).matrices == 2


@pytest.mark.parametrize(
    ("constants", "rounded"),
    [
        ([], False),
        ([np.ones((2, 3), np.float32)], False),
        ([MATRIX.numpy() * [1, 1, 0]], False),  # more zeros than there were
        ([np.array([[9, 0, 1], [1, 0, 9]], np.int8)], True),
        ([MATRIX.numpy()[:, :2]], False),
    ],
)
def test_a_matrix_without_its_zeros_is_refused(constants, rounded):
    with pytest.raises(ModelError, match=r"'w' of shape \(2, 3\) with 3 zeros is not in the exported file"):
        check_zeros({"w": MATRIX}, constants, rounded=rounded)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--to", "tflite"], "--to tflite is unknown; there are onnx, openvino"),
        (["--to", "onnx", "--precision", "fp16"], "--precision fp16 is unknown"),
        (["--to", "onnx", "--precision", "int8", "--calibration", "x.wav"], "take --to openvino"),
        (["--to", "openvino", "--precision", "int8"], "--calibration"),
        (["--to", "openvino", "--calibration", "x.wav"], "float32 needs none"),
        (["--to", "onnx", "--utterances", "1"], "two or more"),
    ],
)
def test_options_that_do_not_go_together(options, complaint, tmp_path, monkeypatch):
    monkeypatch.setattr(target.importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match=complaint):
        main(["no/model", str(tmp_path / "out"), *options])


def test_packages_that_are_missing_are_named(monkeypatch, tmp_path):
    monkeypatch.setattr(target.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs openvino, onnx, not installed here: pip install 'audio-lottery\[exp"):
        main(["no/model", str(tmp_path / "out"), "--to", "openvino"])


@pytest.mark.parametrize("family", ["transducer", "parakeet_transducer", "whisper"])
def test_models_that_are_no_graph_are_refused(family, tmp_path, monkeypatch):
    monkeypatch.setattr(target.importlib.util, "find_spec", lambda name: object())
    instead = "CTranslate2" if family == "whisper" else "audio-lottery transcribe"
    with pytest.raises(ModelError, match=rf"family {family} is no single graph.*{instead}"):
        export(load_backbone(TINY[family], 0), "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("named", "error", "complaint"),
    [
        ("gone.wav", ConfigError, "--calibration gone.wav is neither"),
        ("gone.jsonl", CorpusError, "gone"),
        ("{broken}", AudioError, "broken.wav"),
    ],
)
def test_speech_that_is_not_there(named, error, complaint, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    with pytest.raises(error, match=complaint):
        speech([named.format(broken=broken)], 4)


def test_too_little_speech(tmp_path, monkeypatch):
    monkeypatch.setattr(target.importlib.util, "find_spec", lambda name: object())
    for few in (audio(0.5), audio(0.001, 0.5), [*audio(0.5), *audio(0.5)]):
        with pytest.raises(ConfigError, match="two of different lengths are the least"):
            export(sparse("conformer"), "openvino", tmp_path / "out", precision="int8", calibration=few)


def test_the_copied_program_imports_nothing_of_ours():
    text = Path(recognise.__file__).read_text()
    assert "audio_lottery" not in text
