"""What a process that transcribes, or runs a sparse file, does not import."""

import subprocess
import sys

import pytest

from audio_lottery.sparse.format import save
from tests.sparse.runtime.test_runtime_families import recogniser

# Tables, plots, statistics, other runtimes and trackers: what only data preparation, training and reports need.
HEAVY = (
    "datasets", "jsonargparse", "matplotlib", "onnx", "onnxruntime", "openvino", "pandas", "pyarrow", "ray",
    "scipy.signal", "scipy.stats", "selenium", "sklearn", "tensorboard",
)  # fmt: skip
RECOGNISER = """
import numpy as np
from audio_lottery.transcribe import Recogniser
Recogniser.load({folder!r}, accelerate=True).transcribe(np.sin(np.arange(16000)))
"""
KERNELS = """
from audio_lottery.sparse import load_accelerated
load_accelerated({folder!r})
"""


@pytest.mark.parametrize("program", [RECOGNISER, KERNELS], ids=["recogniser", "kernels"])
def test_heavy_packages_stay_out(program, tmp_path):
    backbone = recogniser("conformer")
    save(backbone.module, tmp_path / "model", processor=backbone.processor)
    asked = f"{program.format(folder=str(tmp_path / 'model'))}import sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", asked], check=True, stdout=subprocess.PIPE, text=True).stdout.split()
    assert "torch" in loaded
    assert not set(HEAVY) & set(loaded)
