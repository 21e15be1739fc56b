"""A Hub id, served by a Hub on this machine's loopback; in its own process: the address is read at import."""

import hashlib
import sys

from safetensors.torch import load_file

from audio_lottery.sparse.format import read
from tests.e2e.conftest import environment, execute
from tests.http_server import Handler, serving

REPO = "someone/tiny-sparse"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PROGRAM = f"""
import sys
from safetensors.torch import save_file
from audio_lottery.config import ModelConfig
from audio_lottery.errors import ModelError
from audio_lottery.models.load import load_backbone
from audio_lottery.sparse.format import load
for name, model in {{
    "load": lambda: load("{REPO}", revision="{COMMIT}"),
    "backbone": lambda: load_backbone(ModelConfig(init="{REPO}"), seed=0).module,
}}.items():
    save_file(dict(model().state_dict()), sys.argv[1] + "/" + name)
try:
    load("someone/else")
except ModelError as error:
    print(error)
"""


def test_a_hub_id_loads_like_a_folder(saved, tmp_path):
    class Hub(Handler):
        def answer(self):
            repository, _, name = self.path.partition("/resolve/")
            file = saved[1] / name.split("/", 1)[-1]
            if repository == f"/{REPO}" and file.is_file():
                content = file.read_bytes()
                self.send(200, {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}, content)
            else:
                self.send(404, {"X-Error-Code": "EntryNotFound" if REPO in repository else "RepoNotFound"})

    with serving(Hub) as address:
        env = environment(HF_ENDPOINT=address, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="0", HF_HUB_DISABLE_XET="1")
        result = execute([sys.executable, "-c", PROGRAM, str(tmp_path)], env=env)
    assert result.returncode == 0, result.stderr
    assert "'someone/else' is not a folder, and the Hub does not give it" in result.stdout
    expected = read(saved[1])
    for name in ("load", "backbone"):
        served = load_file(tmp_path / name)
        assert served.keys() == expected.keys()
        assert all(served[key].numpy().tobytes() == t.numpy().tobytes() for key, t in expected.items())
