"""``audio-lottery publish``: a ticket of a search, onto the Hub."""

import argparse
from pathlib import Path

# For the help text only; the modules that do the work load torch.
_ROUND = (
    "best (lowest dev WER), winning (lowest dev WER of those that match the dense model), extreme (sparsest that "
    "matches), or a round's number"
)


def main(arguments: list[str]) -> None:
    """Check a ticket, put it together, upload it, read it back."""
    parser = argparse.ArgumentParser(
        prog="audio-lottery publish",
        description="Publish one ticket of a search: weights dense and sparse, mask, processor and a model card, "
        "checked against the run's record, in one commit, and read back from the Hub. Repositories are private unless "
        "--public is given. The token is that of `hf auth login` or of HF_TOKEN. docs/publish.md says more.",
    )
    parser.add_argument("run_dir", type=Path, metavar="RUN", help="run folder")
    parser.add_argument("--round", required=True, help=_ROUND)
    parser.add_argument("--repo", required=True, metavar="USER/NAME", help="model repository; made if it is not there")
    parser.add_argument(
        "--branch",
        nargs="?",
        const="",
        metavar="NAME",
        help="commit to a branch of its own instead of main; without NAME it is called round-NN",
    )
    parser.add_argument("--dry-run", action="store_true", help="write the folder and show its sizes; no network")
    visibility = parser.add_mutually_exclusive_group()
    visibility.add_argument("--private", dest="private", action="store_true", default=True, help="the default")
    visibility.add_argument("--public", dest="private", action="store_false", help="everybody may see it")
    parser.add_argument(
        "--licence",
        "--license",
        metavar="ID",
        help="of the weights, as the Hub spells it; default: as the corpora allow",
    )
    parser.add_argument(
        "--sample",
        type=int,
        default=32,
        metavar="N",
        help="test utterances that are recognised again and compared (default: 32); 0 leaves that out",
    )
    options = parser.parse_args(arguments)
    publish(options)


def publish(options: argparse.Namespace) -> None:
    """Publish as the parsed options say."""
    from audio_lottery.errors import ConfigError
    from audio_lottery.publish.hub import Hub, check_repo, require_token

    check_repo(options.repo)
    if options.sample < 0:
        raise ConfigError(f"--sample is {options.sample}; it must be 0 or more")
    token = None if options.dry_run else require_token()  # before anything else: nothing is written without one

    from audio_lottery.publish.checks import check_round
    from audio_lottery.publish.folder import assemble, published_files
    from audio_lottery.publish.names import MAIN, Target, check_branch, choose_round
    from audio_lottery.publish.upload import Place, upload
    from audio_lottery.report.upload import format_upload
    from audio_lottery.settings import read_config

    chosen = choose_round(options.run_dir, options.round)
    branch = MAIN if options.branch is None else options.branch or f"round-{chosen.number:02d}"
    check_branch(branch)
    place = None if token is None else Place(Hub(options.repo, token), branch, options.private)
    head = None if place is None else place.look()
    config = read_config(options.run_dir / "config.yaml")
    checked = check_round(chosen, config, options.sample)
    target = Target(options.repo, branch, options.licence, "" if head is None else head.card)
    folder = assemble(chosen, config, checked, target)
    print(format_upload(published_files(folder), options.repo, branch, options.private))
    if place is None:
        print(f"\ndry run: nothing was uploaded; the files are in {folder}")
        return
    remaining = chosen.group.first.rounds[chosen.number]["remaining_percent"]
    message = f"Round {chosen.number} of {chosen.group.name}: {remaining:.2f} % of the prunable weights"
    commit = upload(place, folder, head, message)
    print(f"\npublished and read back, bit for bit: {options.repo}, branch {branch}, commit {commit}")
    print(f'use: load_ticket("{options.repo}"{_revision(branch, MAIN)}), or --model.init {options.repo}')


def _revision(branch: str, main_branch: str) -> str:
    return "" if branch == main_branch else f', revision="{branch}"'
