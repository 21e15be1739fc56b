"""Threads, forks, DataLoader workers, copies, and CPUs without AVX-512."""

import copy
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

import audio_lottery
from audio_lottery.errors import ModelError
from audio_lottery.sparse.runtime.convolution import SparseConv1d
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.lstm import SparseLSTM
from audio_lottery.sparse.runtime.threads import each, tile_widths
from tests.sparse.runtime.layers import pruned


def answer(queue, sparse, x):
    queue.put(sparse(x).tolist())


def test_fork_after_the_threads_were_used():
    torch.set_num_threads(3)
    sparse = SparseLinear(pruned(nn.Linear(40, 32), 0.3))
    x = torch.randn(500, 40)
    expected = sparse(x)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=answer, args=(queue, sparse, x), daemon=True)
    child.start()
    found = torch.tensor(queue.get(timeout=60))
    child.join(60)
    assert child.exitcode == 0
    assert torch.equal(found, expected)
    assert torch.equal(sparse(x), expected)


class Frames(Dataset):
    """Items go through a sparse layer in the worker."""

    def __init__(self, sparse, x):
        self.sparse, self.x = sparse, x

    def __len__(self):
        return len(self.x)

    def __getitem__(self, index):
        return self.sparse(self.x[index])


def test_dataloader_workers():
    torch.set_num_threads(2)
    sparse = SparseLinear(pruned(nn.Linear(40, 32), 0.3))
    x = torch.randn(6, 300, 40)
    expected = sparse(x)
    loader = DataLoader(Frames(sparse, x), batch_size=2, num_workers=2, timeout=60)
    assert torch.equal(torch.cat(list(loader)), expected)


def test_callers_on_several_threads():
    torch.set_num_threads(2)
    layers = [SparseLinear(pruned(nn.Linear(40, 32), 0.3)), SparseConv1d(pruned(nn.Conv1d(40, 32, 3), 0.3))]
    inputs = [torch.randn(500, 40), torch.randn(1, 40, 500)]
    expected = [layer(x) for layer, x in zip(layers, inputs, strict=True)]
    wrong = []

    def call(number):
        for _ in range(20):
            if not torch.equal(layers[number % 2](inputs[number % 2]), expected[number % 2]):
                wrong.append(number)

    threads = [threading.Thread(target=call, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert not wrong


@pytest.mark.parametrize("threads", [1, 2, 4])
@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_each_does_every_piece_once(threads, count):
    torch.set_num_threads(threads)
    done = []
    each(lambda number, scratch: done.append((number, scratch.size)), count, 7)
    assert sorted(done) == [(number, 7) for number in range(count)]


@pytest.mark.parametrize("bad", range(6))
def test_each_hands_on_an_error_of_any_piece(bad):
    torch.set_num_threads(3)

    def work(number, scratch):
        if number == bad:
            raise ValueError("piece")

    with pytest.raises(ValueError, match="piece"):
        each(work, 6)


@pytest.mark.parametrize("threads", [1, 2, 3, 4])
def test_tile_widths_cover_all_frames(threads):
    torch.set_num_threads(threads)
    for frames in [*range(1, 300), 1499, 100_000]:
        widths = tile_widths(frames, 128, 32)
        assert sum(widths) == frames
        assert all(width == widths[0] for width in widths[:-1])
        assert 0 < widths[-1] <= widths[0] <= 128
        assert len(widths) == 1 or widths[0] % 32 == 0


def layers():
    return [
        (SparseLinear(pruned(nn.Linear(12, 8), 0.5)), torch.randn(5, 12)),
        (SparseConv1d(pruned(nn.Conv1d(12, 8, 3), 0.5)), torch.randn(12, 9)),
        (SparseLSTM(pruned(nn.LSTM(12, 8), 0.5)), torch.randn(5, 12)),
    ]


def test_training_mode_is_refused():
    for layer, _ in layers():
        assert not layer.training
        assert layer.eval() is layer
        with pytest.raises(ModelError, match="cannot be trained"):
            layer.train()
        with pytest.raises(ModelError, match="cannot be trained"):
            nn.Sequential(layer).train()


def test_copies_give_the_same():
    for layer, x in layers():
        model = nn.Sequential(layer)
        twin = copy.deepcopy(model)
        found, expected = twin(x), model(x)
        if isinstance(found, tuple):
            found, expected = found[0], expected[0]
        assert torch.equal(found, expected)


NARROW = """
import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model
from audio_lottery.sparse import accelerate
from audio_lottery.sparse.kernels.vector import WIDTH
from audio_lottery.sparse.runtime.front_end import FrontEnd
from audio_lottery.sparse.runtime.linear import SparseLinear
from audio_lottery.sparse.runtime.lstm import SparseLSTM
from audio_lottery.sparse.runtime.wav2vec2 import Encoder
from tests.sparse.runtime.layers import close, pruned
from tests.sparse.runtime.test_runtime_wav2vec2 import small_model

assert WIDTH == 8, WIDTH
torch.manual_seed(0)
for kernel, error in (("csr", 0), ("block16x1", 0), ("csr_bf16", 2**-8)):
    linear = pruned(nn.Linear(900, 48), 0.2)
    sparse = SparseLinear(linear, kernels=(kernel,))
    assert sparse.kernel == kernel
    for frames in (1, 70):
        x = torch.randn(frames, 900)
        bound = nn.functional.linear(x.abs(), linear.weight.abs()) * error
        assert ((sparse(x) - linear(x)).abs() <= bound + 1e-5).all(), kernel
close(accelerate(linear, precision="int8", force=True)(x), linear(x))
lstm = pruned(nn.LSTM(8, 40, num_layers=2, bidirectional=True), 0.3)
sparse = SparseLSTM(lstm)
for batch in (1, 30):
    x = torch.randn(9, batch, 8)
    close(sparse(x), lstm(x))
model = small_model("wav2vec2", "layer norm")
x = torch.randn(1, 4000)
close(FrontEnd(model.feature_extractor)(x), model.feature_extractor(x), atol=1e-4)
x = torch.randn(2, 75, 48)
mask = torch.arange(75)[None] < torch.tensor([75, 20])[:, None]
found = Encoder(model.encoder)(x, mask).last_hidden_state
close(found[mask], model.encoder(x, mask).last_hidden_state[mask], atol=1e-4)
print("right")
"""


@pytest.mark.skipif(sys.platform == "darwin" or os.uname().machine != "x86_64", reason="features of x86 CPUs")
def test_cpu_without_avx512(tmp_path):
    features = ["sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "f16c", "bmi", "bmi2"]
    settings = {
        "NUMBA_CPU_NAME": "haswell",
        "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in features),
        "NUMBA_CACHE_DIR": str(tmp_path),
        "OMP_NUM_THREADS": "1",
    }
    root = Path(audio_lottery.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", NARROW],
        env={**os.environ, **settings},
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.stdout.endswith("right\n"), done.stderr
