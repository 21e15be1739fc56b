"""The standard containers: scipy reads them, and they come back bit for bit."""

import numpy as np
import pytest
import scipy.sparse
import torch

from audio_lottery.errors import ModelError, RunError
from audio_lottery.sparse.format import export_csr, read_csr
from tests.sparse.format.conftest import equal, tiny_backbone


@pytest.mark.parametrize("layout", ["csr", "csc"])
def test_scipy_reads_the_weights(backbone, tmp_path, layout):
    names = export_csr(backbone.module, tmp_path / "export", layout)
    state = backbone.module.state_dict()
    assert len(names) > 5
    for name in names:
        matrix = scipy.sparse.load_npz(tmp_path / "export" / f"{name}.npz")
        assert matrix.format == layout
        assert np.array_equal(matrix.toarray(), state[name].reshape(len(state[name]), -1).numpy())
        assert matrix.nnz == int(torch.count_nonzero(state[name]))


@pytest.mark.parametrize("layout", ["csr", "csc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_a_round_trip_keeps_every_bit(tmp_path, layout, dtype):
    model = tiny_backbone().module.to(dtype)
    weight = model.lm_head.weight.data
    weight[0, :3] = torch.tensor([-0.0, float("inf"), 0.0])
    export_csr(model, tmp_path / "export", layout)
    back = read_csr(tmp_path / "export")
    assert equal(
        {name: t.view(torch.uint8) for name, t in back.items()},
        {name: t.contiguous().view(torch.uint8) for name, t in model.state_dict().items()},
    )


def test_a_saved_folder_can_be_exported(saved, backbone, tmp_path):
    export_csr(saved[1], tmp_path / "export")
    assert equal(read_csr(tmp_path / "export"), backbone.module.state_dict())
    export_csr(saved[1], tmp_path / "export", "csc")
    assert equal(read_csr(tmp_path / "export"), backbone.module.state_dict())


def test_mistakes(saved, tmp_path):
    with pytest.raises(ModelError, match="layout 'coo' is unknown; there are csr, csc"):
        export_csr(saved[1], tmp_path / "export", "coo")
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(ModelError, match="exists and is not an earlier"):
        export_csr(saved[1], tmp_path)
    with pytest.raises(RunError, match=r"index\.json"):
        read_csr(tmp_path)
    names = export_csr(saved[1], tmp_path / "export")
    file = tmp_path / "export" / f"{names[0]}.npz"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(ModelError, match="is not a whole export"):
        read_csr(tmp_path / "export")
    file.unlink()
    with pytest.raises(ModelError, match="is not a whole export"):
        read_csr(tmp_path / "export")
