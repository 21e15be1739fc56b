"""A Hub id as the rewind point, served by a Hub on this machine's loopback."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from audio_lottery.config import ModelConfig
from audio_lottery.models.load import load_backbone
from tests.conftest import TINY_MODEL, tiny_settings
from tests.e2e.conftest import environment
from tests.http_server import Handler, serving

REPO = "someone/tiny-wav2vec2"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server with one model repository. Yields its address, the folder it serves and the paths it was asked for."""
    folder = tmp_path / "served"
    load_backbone(ModelConfig(init="w2v2-mini", overrides=TINY_MODEL), seed=8).save(folder)
    asked: list[str] = []

    class Hub(Handler):
        def answer(self) -> None:
            asked.append(self.path)
            prefix = f"/{REPO}/resolve/"
            file = folder / self.path.removeprefix(prefix).split("/", 1)[-1]
            if not self.path.startswith(prefix) or not file.is_file():
                self.send(404, {"X-Error-Code": "EntryNotFound"})
                return
            content = file.read_bytes()
            self.send(200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, content)

    with serving(Hub) as address:
        yield address, folder, asked


def test_a_hub_id_is_the_rewind_point(hub, tiny_corpus, tmp_path, recipe):
    address, folder, asked = hub
    settings = tiny_settings(tiny_corpus, tmp_path / "run") | {"theta": {}, "model": {"init": REPO}}
    config = tmp_path / "settings.yaml"
    config.write_text(yaml.safe_dump(settings))
    env = environment(HF_ENDPOINT=address, HF_HOME=str(tmp_path / "hf"), HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1")
    result = recipe("--config", str(config), "--search.rounds", "1", env=env)
    assert result.returncode == 0, result.stderr
    assert any(path.endswith("model.safetensors") for path in asked)
    served, theta = (load_file(p / "model.safetensors") for p in (folder, tmp_path / "run" / "theta"))
    assert served.keys() == theta.keys()
    assert all(torch.equal(served[name], theta[name]) for name in served)
    # a second start needs no Hub: θ is in the run folder
    offline = environment(HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path / "empty"))
    assert recipe("--config", str(config), "--search.rounds", "1", env=offline).returncode == 0
