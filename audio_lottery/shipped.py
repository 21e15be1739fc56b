"""The configs and suites that come with the package, found by name.

They are the files of ``recipes/configs`` and ``recipes/suites``: beside the package in a checkout, in it in a wheel.
"""

import difflib
import os
from pathlib import Path
from typing import Literal

from audio_lottery.errors import ConfigError

Kind = Literal["config", "suite", "grid"]
"""Settings for ``--config``, test conditions for ``--suites``, or a comparison for ``audio-lottery compare``."""


def folder(kind: Kind) -> Path:
    """The folder that holds the files of a kind.

    Raises:
        ConfigError: the installation lacks them.
    """
    package = Path(__file__).parent
    for recipes in (package / "recipes", package.parent / "recipes"):
        if (recipes / f"{kind}s").is_dir():
            return recipes / f"{kind}s"
    raise ConfigError(f"{package} was installed without its {kind}s; install the wheel, or work in a checkout")


def names(kind: Kind) -> list[str]:
    """The names of all files of a kind, those in subfolders last: ``w2v2_mini``, ``methods/lamp``."""
    top = folder(kind)
    found = [path.relative_to(top).with_suffix("").as_posix() for path in top.rglob("*.yaml")]
    return sorted(found, key=lambda name: (name.count("/"), name))


def find(kind: Kind, name: str) -> Path | None:
    """The shipped file called ``name``, with or without ``.yaml``, if there is one."""
    bare = name.removesuffix(".yaml")
    return folder(kind) / f"{bare}.yaml" if bare in names(kind) else None


def resolve(kind: Kind, name: str) -> Path:
    """The file that a user means by ``name``: one of their own, else one that comes with the package.

    Args:
        kind: what is looked for.
        name: path of a file, or name of a shipped one; both with or without ``.yaml``. A file of the user's own wins.

    Raises:
        ConfigError: there is neither; the message lists the nearest names.
    """
    own = os.path.expanduser(name)
    for path in (own, f"{own}.yaml"):
        if os.path.isfile(path):
            return Path(path)
    if (shipped := find(kind, name)) is not None:
        return shipped
    if os.path.isdir(own):
        raise ConfigError(f"'{name}' is a folder; give a YAML file in it, or the name of a {kind} of the package")
    raise ConfigError(
        f"'{name}': no such file, and no {kind} of the package has that name; "
        f"the nearest are {', '.join(nearest(name, names(kind)))}; `audio-lottery recipes` lists all"
    )


def nearest(name: str, known: list[str], count: int = 3) -> list[str]:
    """The ``count`` known names that resemble ``name`` most, as a whole or in their last part."""
    whole = name.removesuffix(".yaml")

    def likeness(candidate: str) -> float:
        pairs = ((whole, candidate), (whole.rpartition("/")[2], candidate.rpartition("/")[2]))
        return max(difflib.SequenceMatcher(None, *pair).ratio() for pair in pairs)

    return sorted(known, key=lambda candidate: (-likeness(candidate), candidate))[:count]


def summary(path: Path) -> str:
    """The first line of a file's opening comment, which says what the file is for."""
    return path.read_text(encoding="utf-8").split("\n", 1)[0].removeprefix("#").strip()
