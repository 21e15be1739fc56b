"""The comparison: rows as promised, wrong contestants reported and never timed, dense ones measured once."""

import json

import pytest
import torch
from transformers import WavLMForCTC

from audio_lottery import pruning
from audio_lottery.errors import ConfigError, ModelError
from audio_lottery.sparse import accelerate
from audio_lottery.sparse.benchmark import (
    BenchmarkSettings,
    Subject,
    compare_model,
    compare_sparsities,
    own,
)
from audio_lottery.sparse.benchmark.agreement import SHARES, compare
from audio_lottery.sparse.benchmark.contestants import RUNTIMES, Runtime, plain
from audio_lottery.sparse.benchmark.settings import runtime_names
from audio_lottery.sparse.benchmark.subject import wav2vec2_base
from audio_lottery.sparse.precision import PRECISIONS
from tests.models.families import tiny_config
from tests.sparse.benchmark.conftest import TINY, broken

FIELDS = ["runtime", "precision", "pattern", "sparsity", "audio_seconds", "median_s", "min_s", "max_s"]
QUICK = {"repeats": 2, "threads": 1, "rest": 0.0}


def test_every_runtime_of_the_issue_is_a_contestant() -> None:
    assert [(runtime.name, runtime.precision) for runtime in RUNTIMES] == [
        ("torch", "float32"),
        ("torch", "bfloat16"),
        ("torch", "int8"),
        ("onnxruntime", "float32"),
        ("onnxruntime", "int8"),
        ("openvino", "float32"),
        ("openvino", "bfloat16"),
        ("openvino", "int8"),
    ]
    assert {runtime.name for runtime in RUNTIMES} | {own.NAME, "ctranslate2"} == set(runtime_names())


@pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda runtime: f"{runtime.name}-{runtime.precision}")
def test_real_runtimes_compute_the_same_model(runtime: Runtime, subject: Subject, tmp_path) -> None:
    for package in runtime.packages:
        pytest.importorskip(package)
    inputs = subject.make_inputs(0.6)
    try:
        call = runtime.build(subject.logits(subject.model).eval(), inputs, 1, tmp_path)
    except RuntimeError as error:
        if "has no instructions" not in str(error):
            raise
        pytest.skip(str(error))
    with torch.inference_mode():
        reference = subject.model(inputs).logits
        agreement = compare(call(inputs), reference, runtime.precision)
        other = compare(call(-inputs.flip(1)), reference, runtime.precision)
    assert agreement.right, agreement.verdict
    assert not other.right
    if runtime.precision != "float32":  # or it would not be what it says
        assert agreement.largest > 1e-4
    assert all(parameter.dtype == torch.float32 for parameter in subject.model.parameters())


def test_what_exporters_get_has_no_weight_norm_and_leaves_the_original_alone(subject: Subject) -> None:
    original = subject.logits(subject.model)
    inputs = subject.make_inputs(0.6)
    with torch.inference_mode():
        before = original(inputs)
        exported = plain(original)
        assert torch.equal(exported(inputs), before)
        assert torch.equal(original(inputs), before)
    assert any("parametrizations" in name for name in original.state_dict())
    assert not any("parametrizations" in name for name in exported.state_dict())


def test_rows_hold_the_promised_fields_first_and_repeat_dense_times(subject: Subject, stand_in) -> None:
    settings = BenchmarkSettings(
        seconds=(0.5, 0.8),
        sparsities=(0.0, 0.9),
        patterns=("unstructured", "16x2"),
        runtimes=("torch", own.NAME),
        **QUICK,
    )
    outcome = compare_sparsities(subject, settings)
    json.dumps(outcome.rows)
    assert all(list(row)[:8] == FIELDS for row in outcome.rows)
    assert all(row["min_s"] <= row["median_s"] <= row["max_s"] for row in outcome.rows)
    found = {tuple(row[name] for name in FIELDS[:5]) for row in outcome.rows}
    expected = set()
    for seconds in (0.5, 0.8):
        for precision in ("float32", "bfloat16", "int8"):
            expected |= {("torch", precision, "dense", sparsity, seconds) for sparsity in (0.0, 0.9)}
        for precision in PRECISIONS:
            expected.add((own.NAME, precision, "dense", 0.0, seconds))
            expected |= {(own.NAME, precision, pattern, 0.9, seconds) for pattern in ("unstructured", "16x2")}
    assert found == expected
    assert len(outcome.rows) == len(expected)
    dense = [row for row in outcome.rows if (row["runtime"], row["precision"]) == ("torch", "float32")]
    for seconds in (0.5, 0.8):
        first, second = [row for row in dense if row["audio_seconds"] == seconds]
        assert first["shared"]
        assert {**first, "sparsity": 0.9} == second
    assert {row["plan"] for row in outcome.rows if row["runtime"] == own.NAME} == {"2 csr, 1 dense"}
    assert stand_in == [(precision, False) for precision in PRECISIONS] * 3  # sparsity 0 once, not once a pattern


def test_pruned_models_have_the_sparsity_in_the_pattern_in_every_layer(subject: Subject) -> None:
    names = pruning.find_scope(subject.model).names
    before = {name: value.clone() for name, value in subject.model.state_dict().items()}
    weights = dict(own.pruned(subject.model, "16x1", 0.5).named_parameters())
    for name in names:
        weight = weights[name].reshape(len(weights[name]), -1)
        assert float((weight == 0).float().mean()) == pytest.approx(0.5, abs=0.06), name
        if len(weight) % 16 == 0:
            kept = (weight.reshape(-1, 16, weight.shape[1]) != 0).float().mean(dim=1)
            assert set(kept.unique().tolist()) <= {0.0, 1.0}
    assert all(torch.equal(value, before[name]) for name, value in subject.model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda logits: logits + 0.01, "a logit differs by 1"),
        (lambda logits: logits[:, 1:], "its output has shape"),
        (lambda logits: logits * float("nan"), "NaN"),
    ],
)
def test_a_wrong_contestant_is_reported_and_has_no_row(subject: Subject, monkeypatch, change, words) -> None:
    monkeypatch.setattr(own, "accelerated", broken(change))
    settings = BenchmarkSettings(seconds=(0.5,), precisions=("float32",), runtimes=("torch", own.NAME), **QUICK)
    outcome = compare_model(subject, settings)
    assert {row["runtime"] for row in outcome.rows} == {"torch"}
    assert any(note.startswith("WRONG, not timed: audio_lottery float32") and words in note for note in outcome.notes)


def test_too_coarse_an_int8_is_timed_where_it_is_a_rival_s(subject: Subject, monkeypatch) -> None:
    monkeypatch.setitem(SHARES, "int8", 1e-9)
    monkeypatch.setattr(own, "accelerated", broken(lambda logits: logits + 0.01))
    settings = BenchmarkSettings(seconds=(0.5,), precisions=("int8",), runtimes=("torch", own.NAME), **QUICK)
    outcome = compare_model(subject, settings)
    timed = {(row["runtime"], row["precision"]) for row in outcome.rows}
    assert timed == {("torch", "float32"), ("torch", "bfloat16"), ("torch", "int8")}
    notes = " ".join(outcome.notes)
    assert "TOO COARSE, timed all the same: torch int8" in notes
    assert "WRONG, not timed: audio_lottery int8" in notes


def test_a_failing_contestant_is_named_and_the_others_go_on(subject: Subject, stand_in, monkeypatch) -> None:
    def fails(*_):
        raise RuntimeError("no such operator\nand a long story")

    runtimes = (
        *RUNTIMES[:1],
        Runtime("openvino", "float32", (), fails),
        Runtime("openvino", "int8", ("nowhere",), fails),
    )
    monkeypatch.setattr("audio_lottery.sparse.benchmark.compare.RUNTIMES", runtimes)
    outcome = compare_model(subject, BenchmarkSettings(seconds=(0.5, 0.6), **QUICK))
    assert {row["runtime"] for row in outcome.rows} == {"torch", own.NAME}
    left_out = [note for note in outcome.notes if "left out" in note]
    assert left_out == [
        "openvino float32 is left out: it failed with RuntimeError: no such operator",
        "openvino int8 is left out: nowhere not installed; pip install 'audio-lottery[bench]'",
    ]


def test_a_model_that_we_refuse_is_left_out_with_the_reason(subject: Subject, monkeypatch) -> None:
    def refuses(*_):
        raise ModelError("'layer' has no shape yet")

    monkeypatch.setattr(own, "accelerated", refuses)
    outcome = compare_model(subject, BenchmarkSettings(seconds=(0.5,), runtimes=("torch", own.NAME), **QUICK))
    assert {row["runtime"] for row in outcome.rows} == {"torch"}
    assert [note for note in outcome.notes if "left out" in note] == [
        f"{own.NAME} {precision} is left out: 'layer' has no shape yet" for precision in PRECISIONS
    ]


def test_the_plan_says_what_became_dense_in_the_calls(monkeypatch) -> None:
    torch.manual_seed(0)
    wavlm = WavLMForCTC(tiny_config("wavlm")).eval()
    model = own.pruned(wavlm, "unstructured", 0.9)
    subject = Subject("wavlm", model, "input_values", lambda seconds: torch.randn(1, round(16_000 * seconds)))
    monkeypatch.setattr(own, "accelerated", lambda model, precision: accelerate(model, precision=precision, force=True))
    outcome = compare_model(subject, BenchmarkSettings(seconds=(0.5,), runtimes=(own.NAME,), **QUICK))
    plans = {row["precision"]: row["plan"] for row in outcome.rows}
    assert plans["float32"] == "12 dense, 11 csr"  # of the dense, 8 are the projections of two layers
    assert set(plans) == set(PRECISIONS)


def test_nothing_measured_is_an_error(subject: Subject, monkeypatch) -> None:
    monkeypatch.setattr(own, "accelerated", broken(lambda logits: logits + 10))
    with pytest.raises(ConfigError, match=r"no contestant could be measured.*a logit differs"):
        compare_model(subject, BenchmarkSettings(seconds=(0.5,), runtimes=(own.NAME,), **QUICK))


def test_a_model_of_ones_own_is_measured_at_its_own_sparsity(stand_in) -> None:
    settings = BenchmarkSettings(seconds=(0.5,), runtimes=("torch", own.NAME), **QUICK)
    dense = wav2vec2_base(0, **TINY)
    outcome = compare_model(dense, settings)
    assert {row["sparsity"] for row in outcome.rows} == {0.0}
    assert any("the model is dense" in note for note in outcome.notes)
    sparse = Subject("own", own.pruned(dense.model, "unstructured", 0.75), dense.input_name, dense.make_inputs)
    outcome = compare_model(sparse, settings)
    assert [row["sparsity"] for row in outcome.rows] == pytest.approx([0.75] * 6, abs=0.01)
    assert all(row["density"] == 1 - row["sparsity"] for row in outcome.rows)
    assert not any("the model is dense" in note for note in outcome.notes)


def test_threads_of_the_caller_come_back(subject: Subject, stand_in) -> None:
    before = torch.get_num_threads()
    seen = []
    watched = Subject(subject.name, subject.model, subject.input_name, subject.make_inputs)
    handle = watched.model.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    try:
        torch.set_num_threads(2)
        compare_model(watched, BenchmarkSettings(seconds=(0.5,), runtimes=(own.NAME,), **QUICK))
        assert set(seen) == {1}
        assert torch.get_num_threads() == 2
    finally:
        handle.remove()
        torch.set_num_threads(before)


def test_untrained_logits_depend_on_the_audio_and_are_reproducible(subject: Subject) -> None:
    again = wav2vec2_base(0, **TINY).model.state_dict()
    assert all(torch.equal(value, again[name]) for name, value in subject.model.state_dict().items())
    with torch.inference_mode():
        logits = subject.model(subject.make_inputs(2.0)).logits
    assert float(logits.std()) == pytest.approx(3.0, rel=0.3)
    assert float(logits.std(dim=1).mean()) > 1.0  # from frame to frame
    assert len(logits.argmax(-1).unique()) > 5
    for layer in subject.model.wav2vec2.feature_extractor.conv_layers[1:]:  # or a constant grows from layer to layer
        assert float(layer.conv.weight.detach().mean(dim=(1, 2)).abs().max()) < 1e-6


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": (0.0,)}, "--seconds 0"),
        ({"seconds": (float("nan"),)}, "--seconds nan"),
        ({"seconds": ()}, "--seconds: at least one"),
        ({"seconds": (2.0, 2.0)}, "each of them once"),
        ({"sparsities": (1.0,)}, "--sparsities 1"),
        ({"sparsities": (-0.1,)}, "--sparsities -0.1"),
        ({"patterns": ("32x1",)}, "--patterns 32x1: .*16x1"),
        ({"precisions": ("fp16",)}, "--precisions fp16: .*int8"),
        ({"precisions": ()}, "--precisions: at least one"),
        ({"runtimes": ("tensorrt",)}, "--runtimes tensorrt: .*openvino"),
        ({"repeats": 0}, "--repeats 0"),
        ({"threads": 0}, "--threads 0"),
        ({"threads": 10_000}, "--threads 10000: this process may use"),
    ],
)
def test_impossible_settings(change, words) -> None:
    with pytest.raises(ConfigError, match=words):
        BenchmarkSettings(**{"threads": 1, **change}).check()
