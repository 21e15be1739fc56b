"""One repository on the Hub, asked with bounded patience; what it says is one clear line, and never the token."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from huggingface_hub import CommitOperationAdd, HfApi, get_token
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import get_session, parse_ratelimit_headers, validate_repo_id

from audio_lottery.errors import ConfigError, HubError, reason

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

ATTEMPTS = 5
"""How often one request is made while the Hub is busy."""

LONGEST_WAIT = 60.0
"""Seconds to wait at most before a request is made again; where the Hub asks for more, the command ends."""

_BUSY = (429, 500, 502, 503, 504)
_CONFLICT = (409, 412)


class _Busy(Exception):
    """The Hub asks to come back later. Not an OSError or httpx's own, so that huggingface_hub's loops let it pass."""

    def __init__(self, status: int, wait: float | None) -> None:
        super().__init__(f"status {status}")
        self.status = status
        self.wait = wait


@dataclass(frozen=True)
class Head:
    """What a branch of the repository holds.

    Attributes:
        commit: its last one.
        private: whether the repository is.
        card: its README.md; empty where there is none.
    """

    commit: str
    private: bool
    card: str


def require_token() -> str:
    """The user's token.

    Raises:
        HubError: there is none.
    """
    token = get_token()
    if token is None:
        raise HubError(
            "publishing needs a Hub token with write access and there is none: run `hf auth login`, or set HF_TOKEN; "
            "nothing was written (--dry-run needs no token)"
        )
    return token


def check_repo(repo: str) -> None:
    """Raises:
    ConfigError: ``repo`` is not user/name.
    """
    try:
        validate_repo_id(repo)
    except HFValidationError as error:
        raise ConfigError(f"--repo {repo} cannot be a repository: {reason(error)}") from error
    if repo.count("/") != 1:
        raise ConfigError(f"--repo {repo} names no owner; write user/{repo}")


class Hub:
    """One model repository.

    Args:
        repo: user/name.
        token: of a user who may write there.
    """

    def __init__(self, repo: str, token: str) -> None:
        self.repo = repo
        self._token = token
        self._api = HfApi(token=token)

    def head(self, branch: str, folder: Path) -> Head | None:
        """The end of a branch, and its card; None where there is no such repository or branch.

        Args:
            branch: its name.
            folder: a place for the card.
        """

        def ask() -> Head | None:
            try:
                info = self._api.model_info(self.repo, revision=branch)
            except RevisionNotFoundError:
                return None
            except RepositoryNotFoundError as error:
                if error.response.status_code == 404:
                    return None
                raise
            if info.sha is None:
                raise HubError(f"the Hub names no commit of {self.repo} at {branch}; run the same command again")
            return Head(info.sha, bool(info.private), self._card(info.sha, folder))

        return self._call(f"{self.repo} cannot be looked at", ask)

    def create(self, private: bool) -> None:
        """Make the repository, if it is not there."""
        self._call(
            f"{self.repo} cannot be created", lambda: self._api.create_repo(self.repo, private=private, exist_ok=True)
        )

    def create_branch(self, branch: str) -> None:
        """Make a branch from main, if it is not there."""
        self._call(
            f"branch {branch} of {self.repo} cannot be created",
            lambda: self._api.create_branch(self.repo, branch=branch, exist_ok=True),
        )

    def upload(self, folder: Path, names: list[str], branch: str, parent: str, message: str) -> str:
        """Upload files in one commit.

        Args:
            folder: where they are.
            names: their paths in it, and in the repository.
            branch: to commit to.
            parent: its last commit; what somebody else has committed since is not overwritten.
            message: of the commit.

        Returns:
            The commit that holds the files; ``parent`` where it held all of them already.
        """
        operations = [CommitOperationAdd(name, folder / name) for name in names]

        def commit() -> str:
            done = self._api.create_commit(
                self.repo, operations, commit_message=message, revision=branch, parent_commit=parent
            )
            return str(done.oid)

        return self._call(f"the files cannot be uploaded to {self.repo}, and no commit was made", commit)

    def download(self, name: str, commit: str, folder: Path) -> Path:
        """Fetch one file of a commit, past the cache.

        Args:
            name: its path in the repository.
            commit: hexadecimal.
            folder: where to put it.
        """
        return Path(
            self._call(
                f"{name} of {self.repo} cannot be read back",
                lambda: self._api.hf_hub_download(self.repo, name, revision=commit, local_dir=folder),
            )
        )

    def _card(self, commit: str, folder: Path) -> str:
        try:
            path = self._api.hf_hub_download(self.repo, "README.md", revision=commit, local_dir=folder)
        except EntryNotFoundError:
            return ""
        return Path(path).read_bytes().decode("utf-8-sig", errors="replace")

    def _call(self, problem: str, call: Callable[[], Result]) -> Result:
        """Call, and call again while the Hub is busy.

        Raises:
            HubError: it refuses, stays busy, or the connection breaks.
        """
        attempt = 0
        while True:
            attempt += 1
            try:
                with _told_when_busy():
                    return call()
            except HubError:
                raise
            except Exception as error:  # any class: threads of huggingface_hub wrap what happened in one of theirs
                busy = _cause(error, _Busy)
                if busy is None:
                    text = self._explain(error)
                    if text is None:
                        raise
                    raise HubError(f"{problem}: {text}") from None  # the request, with its headers, hangs on the cause
                wait = 2.0 ** (attempt - 1) if busy.wait is None else busy.wait
            if attempt == ATTEMPTS or wait > LONGEST_WAIT:
                asks = f" and asks to wait {wait:.0f} s" if wait > LONGEST_WAIT else f" after {ATTEMPTS} attempts"
                meaning = "it gets too many requests" if busy.status == 429 else "it has trouble of its own"
                raise HubError(
                    f"{problem}: the Hub answers {busy.status}, {meaning},{asks}; run the same command again later"
                ) from None
            logger.warning("the Hub answers %d; the request is made again in %.0f s", busy.status, wait)
            time.sleep(wait)

    def _explain(self, error: Exception) -> str | None:
        """One line for what a user can do something about; None for a mistake of the program."""
        answer = _cause(error, HfHubHTTPError)
        if answer is not None:
            status = getattr(answer.response, "status_code", 0)
            known = {
                401: "the Hub does not accept the token (401); run `hf auth login` again, or set HF_TOKEN to a token "
                "that is valid",
                403: "the token may not do that (403); use one with write access to the repositories of "
                f"'{self.repo.partition('/')[0]}', or another --repo",
                404: "it is not there (404), or the token may not see it; check --repo",
                413: "a file is too large for the Hub (413)",
            }
            known |= dict.fromkeys(
                _CONFLICT,
                f"something else has changed or is changing the repository ({status}); nothing of it was overwritten: "
                "run the same command again",
            )
            return known.get(status) or f"the Hub answers {status}: {self._clean(answer)}"
        if _cause(error, OfflineModeIsEnabled) is not None:
            return "HF_HUB_OFFLINE is set; unset it to publish"
        # httpx has errors of its own that are no OSErrors: known by the module, which is not ours to depend on
        if isinstance(error, OSError | RuntimeError | ValueError) or type(error).__module__.startswith("httpx"):
            return f"{self._clean(_first(error))}; run the same command again, which goes on where this one ended"
        return None

    def _clean(self, error: BaseException) -> str:
        """An error's own words without the token."""
        return reason(Exception(str(error) or type(error).__name__)).replace(self._token, "***")


@contextmanager
def _told_when_busy() -> Iterator[None]:
    """Answers of a busy Hub end a request with `_Busy`.

    huggingface_hub repeats some requests by itself, others not, and waits as long as the Hub asks, hours included.
    """

    def look(response: Any) -> None:
        if response.status_code in _BUSY:
            raise _Busy(response.status_code, _asked_wait(response.headers))

    session = get_session()
    before = session.event_hooks
    session.event_hooks = {**before, "response": [*before.get("response", []), look]}
    try:
        yield
    finally:
        session.event_hooks = before


def _asked_wait(headers: Any) -> float | None:
    """Seconds that an answer asks to wait."""
    try:
        return max(0.0, float(headers["Retry-After"]))
    except (KeyError, ValueError):  # none, or a date
        limits = parse_ratelimit_headers(headers)
        return None if limits is None or limits.remaining else float(limits.reset_in_seconds)


Kind = TypeVar("Kind", bound=BaseException)


def _cause(error: BaseException, kind: type[Kind]) -> Kind | None:
    """The first error of a class among an error and its causes."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, kind):
            return seen
        seen = seen.__cause__
    return None


def _first(error: BaseException) -> BaseException:
    while error.__cause__ is not None and not type(error).__module__.startswith("httpx"):
        error = error.__cause__
    return error
