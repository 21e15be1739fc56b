"""``audio-lottery recipes``: the configs, suites and comparisons that come with the package, to look at and to copy."""

import argparse
from pathlib import Path
from typing import get_args

from audio_lottery import shipped
from audio_lottery.errors import ConfigError
from audio_lottery.storage import write_bytes

_KINDS: tuple[shipped.Kind, ...] = get_args(shipped.Kind)
_HOW = {
    "config": "configs, for `audio-lottery search --config NAME`; methods/* go on top of another: "
    "--config w2v2_mini --config methods/imp",
    "grid": "comparisons, for `audio-lottery compare NAME`",
    "suite": "suites, for `audio-lottery evaluate MODEL --suites NAME`",
}


def main(arguments: list[str]) -> None:
    """List the recipes, or print or copy one of them."""
    parser = argparse.ArgumentParser(
        prog="audio-lottery recipes",
        description="Configs, suites and comparisons that come with the package. Without a NAME: list them. With a "
        "NAME: print the file, or copy it to --out for editing.",
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="of a config, a suite or a comparison, e.g. w2v2_mini")
    parser.add_argument("--out", type=Path, metavar="FILE", help="copy to this file, which must be new")
    options = parser.parse_args(arguments)
    if options.name is None:
        if options.out is not None:
            raise ConfigError("--out needs the NAME of what to copy; `audio-lottery recipes` lists the names")
        print(listing())
        return
    source = _find(options.name)
    if options.out is None:
        print(source.read_text(encoding="utf-8"), end="")
    elif options.out.exists():
        raise ConfigError(f"--out {options.out} is there already; choose a new file")
    else:
        write_bytes(options.out, source.read_bytes())
        print(f"{options.name}: copied to {options.out}")


def listing() -> str:
    """Every shipped name and what it is for."""
    width = max(len(name) for kind in _KINDS for name in shipped.names(kind))
    blocks = []
    for kind in _KINDS:
        files = {name: shipped.folder(kind) / f"{name}.yaml" for name in shipped.names(kind)}
        rows = [f"  {name:<{width}}  {shipped.summary(path)}" for name, path in files.items()]
        blocks.append("\n".join([_HOW[kind], *rows]))
    return "\n\n".join(blocks)


def _find(name: str) -> Path:
    for kind in _KINDS:
        if (path := shipped.find(kind, name)) is not None:
            return path
    near = shipped.nearest(name, [known for kind in _KINDS for known in shipped.names(kind)])
    raise ConfigError(f"no recipe is called '{name}'; the nearest are {', '.join(near)}")
