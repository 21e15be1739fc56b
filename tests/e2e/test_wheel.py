"""What a user of the wheel has: an empty folder, the command, and the configs by name."""

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, environment, execute

# Through the source distribution, as an index would build it: what it lacks, the wheel lacks too.
BUILD = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d"]
PIP = [sys.executable, "-m", "pip", "--quiet", "--quiet"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel of this checkout, made without network."""
    folder = tmp_path_factory.mktemp("dist")
    done(execute([*BUILD, str(folder)], cwd=ROOT))
    (sdist,) = folder.glob("*.tar.gz")
    done(execute([*PIP, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", str(folder), str(sdist)]))
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory) -> Path:
    """The folder of commands of a fresh environment that holds the wheel, and borrows this one's other packages."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    options = ["--no-deps", "--no-index", "--no-compile"]
    # Not with this checkout on the path: where it was installed with setuptools, pip would take it for installed there.
    done(execute([*PIP, "--python", str(binaries / "python"), "install", *options, str(wheel)], env=alone()))
    site_packages = next(folder.rglob("site-packages"))
    # A .pth in the borrowed folder is not read: of this checkout's editable installation nothing is seen.
    borrowed = [path for path in sys.path if path.endswith("site-packages")]
    (site_packages / "borrowed.pth").write_text("\n".join(borrowed) + "\n")
    return binaries


def done(result: subprocess.CompletedProcess[str]) -> None:
    assert result.returncode == 0, result.stdout + result.stderr


def alone(**extra: str) -> dict[str, str]:
    """The environment without the path to this checkout."""
    return {name: value for name, value in environment(**extra).items() if name != "PYTHONPATH"}


def test_the_wheel_holds_every_module_and_recipe_once(wheel):
    with zipfile.ZipFile(wheel) as archive:
        inside = [name for name in archive.namelist() if ".dist-info/" not in name]
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "audio_lottery").rglob("*.py")}
    recipes = {f"audio_lottery/{path.relative_to(ROOT)}" for path in (ROOT / "recipes").rglob("*.yaml")}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "audio_lottery").rglob("templates/*")}
    assert sorted(inside) == sorted(modules | recipes | templates | {"audio_lottery/py.typed"})


def test_two_steps_in_an_empty_folder(scripts, tmp_path):
    ask = [str(scripts / "python"), "-c", "import audio_lottery; print(audio_lottery.__file__)"]
    where = execute(ask, env=alone(), cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(scripts.parent), where.stderr

    def few(corpus: str, split: str) -> str:
        return json.dumps([{"corpus": corpus, "split": split, "limit": 4}])

    command = [str(scripts / "audio-lottery"), "search", "--config", "w2v2_mini", "--search.rounds", "1"]
    command += ["--theta.training.max_steps", "2", "--training.max_steps", "2"]
    command += ["--data.dev", few("mini-ted", "dev"), "--data.test", few("mini-ted", "test")]
    command += ["--theta.dev", few("mini-libri", "dev-clean")]
    result = execute(command, env=alone(), cwd=tmp_path)
    done(result)
    rows = (tmp_path / "runs" / "demo" / "summary.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["round", "0", "1"]
    assert (tmp_path / "runs" / "demo" / "round_01" / "mask.safetensors").is_file()
    for bar in ("Loading weights", "Writing model shards", "\r"):
        assert bar not in result.stdout + result.stderr, "only our own lines are shown"
