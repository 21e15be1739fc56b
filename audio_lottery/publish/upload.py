"""An assembled folder onto the Hub in one commit, and back again to see that it is whole."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file

from audio_lottery.errors import HubError
from audio_lottery.lottery.run_folder import MODEL_FILE
from audio_lottery.publish.folder import published_files
from audio_lottery.publish.hub import Head, Hub
from audio_lottery.publish.load import load_ticket
from audio_lottery.publish.names import MAIN
from audio_lottery.storage import file_sha256


@dataclass(frozen=True)
class Place:
    """Where a ticket goes.

    Attributes:
        hub: the repository.
        branch: of it.
        private: whether a repository that is made is private, and one that is there has to be.
    """

    hub: Hub
    branch: str
    private: bool

    def look(self) -> Head | None:
        """What is there now: of the branch, or of main where the branch has yet to be made.

        Raises:
            HubError: the repository is public and was not meant to be, or the Hub does not say.
        """
        with tempfile.TemporaryDirectory() as folder:
            head = self.hub.head(self.branch, Path(folder))
            if head is None and self.branch != MAIN:
                head = self.hub.head(MAIN, Path(folder))
        if head is not None and self.private and not head.private:
            raise HubError(
                f"{self.hub.repo} is public already, and tickets are published privately by default: give "
                "--public, or another --repo"
            )
        return head


def upload(place: Place, folder: Path, head: Head | None, message: str) -> str:
    """Make what is not there, commit every file at once, and read all of it back.

    Args:
        place: where to.
        folder: what `assemble` wrote.
        head: what `Place.look` saw; a card that was changed since is not overwritten.
        message: of the commit.

    Returns:
        The commit.

    Raises:
        HubError: see `Hub`; or what came back is not what was sent. Before the commit nothing of the ticket is visible.
    """
    hub = place.hub
    if head is None:
        hub.create(place.private)
    if place.branch != MAIN:
        hub.create_branch(place.branch)
    with tempfile.TemporaryDirectory() as scratch:
        now = hub.head(place.branch, Path(scratch))
    if now is None:
        raise HubError(
            f"{hub.repo} has no branch {place.branch} although it was made, or the token may not see it; check --repo"
        )
    if now.card != ("" if head is None else head.card):
        raise HubError(f"the card of {hub.repo} has changed since it was read; run the same command again")
    names = list(published_files(folder))
    commit = hub.upload(folder, names, place.branch, now.commit, message)
    verify(hub, folder, names, commit)
    return commit


def verify(hub: Hub, folder: Path, names: list[str], commit: str) -> None:
    """Download a commit and compare: every file byte by byte, and the ticket, loaded, tensor by tensor.

    Raises:
        HubError: names what differs.
    """
    with tempfile.TemporaryDirectory() as scratch:
        back = Path(scratch)
        for name in names:
            path = hub.download(name, commit, back)
            if file_sha256(path) != file_sha256(folder / name):
                raise HubError(
                    f"{name} in commit {commit} of {hub.repo} is not the file that was sent; run the same command again"
                )
        sent, got = load_file(folder / MODEL_FILE), load_file(back / MODEL_FILE)
        ticket = load_ticket(back)
        state = ticket.model.state_dict()
        different = [
            name
            for name, tensor in sent.items()
            if not _equal(tensor, got.get(name)) or not _equal(tensor, state.get(name, tensor))
        ]
        if different or sent.keys() != got.keys():
            raise HubError(
                f"commit {commit} of {hub.repo} loads with other numbers than were sent ({', '.join(different[:3])}); "
                "do not use it, and run the same command again"
            )


def _equal(one: torch.Tensor, other: torch.Tensor | None) -> bool:
    """Bit for bit."""
    return (
        other is not None
        and one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(one.reshape(-1).view(torch.uint8), other.detach().reshape(-1).contiguous().view(torch.uint8))
    )
