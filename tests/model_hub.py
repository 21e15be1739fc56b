"""A Hub on this machine's loopback that can be written to: what huggingface_hub's client asks for, and its faults.

Control routes, for clients in other processes: ``POST /_fault`` makes requests fail, ``GET /_state`` tells all.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from tests.http_server import Handler, serving


@dataclass
class Repo:
    """One repository: branch → commit, commit → files."""

    private: bool
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        oid = hashlib.sha1(f"{branch}{len(self.commits)}".encode()).hexdigest()
        self.commits[oid], self.branches[branch] = files, oid
        return oid


@dataclass
class State:
    """Everything there is.

    Attributes:
        token: the only one that is accepted.
        lfs: whether large files (*.safetensors) go the way of LFS.
        faults: requests whose ``METHOD path`` contains ``match`` get ``status`` ``times`` times.
        asked: ``METHOD path`` of every request, without the control routes.
        stalled: a ``PUT`` waits in the middle: the client can be killed now.
    """

    token: str
    lfs: bool = True
    repos: dict[str, Repo] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    faults: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    stalled: bool = False

    def fault(self, request: str) -> dict[str, Any] | None:
        for one in self.faults:
            if one["match"] in request and one["times"] > 0:
                one["times"] -= 1
                return one
        return None


@contextmanager
def model_hub(token: str) -> Iterator[tuple[str, State]]:
    """Serve an empty Hub; yields its address and what happens in it."""
    state = State(token)

    class Hub(Handler):
        def answer(self) -> None:
            path = unquote(self.path.partition("?")[0])
            request = f"{self.command} {path}"
            if path == "/_fault":
                state.faults[:] = json.loads(self.body())
                return self.json({})
            if path == "/_state":
                return self.json({"stalled": state.stalled, "asked": state.asked, "commits": commits(state)})
            state.asked.append(request)
            fault = state.fault(request)
            if fault is not None and fault.get("stall"):
                self.rfile.read(1000)
                state.stalled = True
                self.rfile.read()  # until the client is gone
                state.stalled = False
                self.close_connection = True
                return None
            body = self.body()
            if fault is not None:
                return self.json({"error": fault.get("says", "no")}, fault["status"], fault.get("headers", {}))
            if path.startswith("/_lfs/"):
                if hashlib.sha256(body).hexdigest() != path.removeprefix("/_lfs/"):
                    return self.json({"error": "checksum"}, 400)
                state.stored[path.removeprefix("/_lfs/")] = body
                return self.json({})
            if self.headers.get("Authorization") != f"Bearer {state.token}":
                return self.json({"error": "Invalid username or password."}, 401)
            return self.route(path, body)

        def route(self, path: str, body: bytes) -> None:
            if path == "/api/validate-yaml":
                return self.json({"errors": [], "warnings": []})
            if path == "/api/repos/create":
                asked = json.loads(body)
                name = f"{asked['organization']}/{asked['name']}"
                if name in state.repos:
                    return self.json({"url": f"{address}/{name}"}, 409)
                repo = state.repos[name] = Repo(asked.get("visibility") == "private")
                repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
                return self.json({"url": f"{address}/{name}"})
            if path.endswith(".git/info/lfs/objects/batch"):
                return self.json({"objects": [self.lfs_object(one) for one in json.loads(body)["objects"]]})
            parts = path.removeprefix("/api/models").strip("/").split("/")
            repo = state.repos.get("/".join(parts[:2]))
            if repo is None:
                return self.json({}, 404, {"X-Error-Code": "RepoNotFound"})
            action, rest = (parts[2], "/".join(parts[3:])) if len(parts) > 2 else ("revision", "main")
            return getattr(self, f"repo_{action}", self.nothing)(repo, rest, body)

        def nothing(self, repo: Repo, rest: str, body: bytes) -> None:
            """What is looked for and not there, such as folders of chat templates."""
            return self.json({}, 404, {"X-Error-Code": "EntryNotFound"})

        def lfs_object(self, asked: dict[str, Any]) -> dict[str, Any]:
            if asked["oid"] in state.stored:
                return asked
            return asked | {"actions": {"upload": {"href": f"{address}/_lfs/{asked['oid']}"}}}

        def repo_branch(self, repo: Repo, branch: str, body: bytes) -> None:
            if branch in repo.branches:
                return self.json({}, 409)
            repo.branches[branch] = repo.branches["main"]
            return self.json({})

        def repo_revision(self, repo: Repo, revision: str, body: bytes) -> None:
            oid = repo.branches.get(revision, revision)
            if oid not in repo.commits:
                return self.json({}, 404, {"X-Error-Code": "RevisionNotFound"})
            return self.json({"id": "x/y", "sha": oid, "private": repo.private, "tags": [], "siblings": []})

        def repo_preupload(self, repo: Repo, revision: str, body: bytes) -> None:
            there = repo.commits[repo.branches[revision]]

            def one(file: dict[str, Any]) -> dict[str, Any]:
                mode = "lfs" if state.lfs and file["path"].endswith(".safetensors") else "regular"
                content = there.get(file["path"])
                known = None
                if content is not None:
                    header = b"" if mode == "lfs" else f"blob {len(content)}\0".encode()
                    known = (hashlib.sha256 if mode == "lfs" else hashlib.sha1)(header + content).hexdigest()
                return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": known}

            return self.json({"files": [one(file) for file in json.loads(body)["files"]]})

        def repo_commit(self, repo: Repo, branch: str, body: bytes) -> None:
            lines = [json.loads(line) for line in body.decode().splitlines()]
            if lines[0]["value"].get("parentCommit") not in (None, repo.branches[branch]):
                return self.json({"error": "the branch has moved"}, 412)
            files = dict(repo.commits[repo.branches[branch]])
            for line in lines[1:]:
                value = line["value"]
                lfs = line["key"] == "lfsFile"
                files[value["path"]] = state.stored[value["oid"]] if lfs else base64.b64decode(value["content"])
            oid = repo.commit(branch, files)
            return self.json({"commitUrl": f"{address}/x/y/commit/{oid}", "commitOid": oid})

        def repo_resolve(self, repo: Repo, rest: str, body: bytes) -> None:
            revision, _, name = rest.partition("/")
            oid = repo.branches.get(revision, revision)
            content = repo.commits.get(oid, {}).get(name)
            if content is None:
                return self.json({}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": oid})
            headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": oid}
            return self.send(200, headers, content)

        def json(self, value: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
            self.send(status, {"Content-Type": "application/json"} | (headers or {}), json.dumps(value).encode())

    with serving(Hub) as address:
        yield address, state


def commits(state: State) -> dict[str, int]:
    """Repository → number of commits."""
    return {name: len(repo.commits) for name, repo in state.repos.items()}
