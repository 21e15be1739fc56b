"""Tables of break-even sparsities, from literal lines."""

import pytest

from audio_lottery.report.break_even import format_break_even, format_model_break_even
from audio_lottery.sparse.benchmark import BreakEven, Crossings, ModelBreakEven

WORDS = [
    ((), True, "50 % or less"),
    ((), False, "not up to 90 %"),
    ((0.613,), False, "61 %"),
    ((0.613,), True, "only to 61 %"),
    ((0.55, 0.7, 0.85), False, "55-70 %, from 85 %"),
    ((0.55, 0.7), False, "55-70 %"),
    ((0.55, 0.7), True, "to 55 %, from 70 %"),
    ((0.55, 0.7, 0.85), True, "to 55 %, 70-85 %"),
]


def crossed(points, fast_at_least) -> Crossings:
    return Crossings(points, fast_at_least, 0.5, 0.9)


@pytest.mark.parametrize(("points", "fast_at_least", "words"), WORDS)
def test_whole_models(points, fast_at_least, words) -> None:
    lines = [
        ModelBreakEven("w2v2", 10.0, "bfloat16", "16x2", "openvino", "int8", crossed(points, fast_at_least)),
        ModelBreakEven("w2v2", 10.0, "bfloat16", "16x2", "torch", "float32", crossed((0.8,), False)),
        ModelBreakEven("rnnt", 2.0, "int8", "1x4", "torch", "float32", crossed((), False)),
    ]
    text = format_model_break_even(lines)
    header, _, first, second = text.splitlines()[2:6]
    assert header.split() == ["model", "audio", "ours", "pattern", "openvino", "int8", "torch", "fp32"]
    assert first.split() == f"w2v2 10 s bf16 16x2 {words} 80 %".split()
    assert second.split() == ["rnnt", "2", "s", "int8", "1x4", "-", "not", "up", "to", "90", "%"]
    assert ("cross more than once" in text) == (len(points) > 1)


@pytest.mark.parametrize(("points", "fast_at_least", "words"), WORDS[:3])
def test_single_layers(points, fast_at_least, words) -> None:
    line = BreakEven(
        "linear 768x768",
        "16x2",
        "bfloat16",
        {"float32": 0.004, "bfloat16": 0.001},
        {0.5: 0.008, 0.9: 0.0005},
        {"float32": crossed(points, fast_at_least), "bfloat16": crossed((0.77,), False)},
    )
    last = format_break_even([line]).splitlines()[-1].split()
    assert last == f"linear 768x768 16x2 bf16 {words} 77 % 4.00 1.00 8.00 0.50".split()
