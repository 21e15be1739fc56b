"""Run by test_publish_hub.py in its own process, as the Hub's address is read at import: many commands at once.

Arguments: run folder, folder for results. Prints nothing; writes results.json and what it loaded.
"""

import contextlib
import io
import json
import logging
import os
import signal
import sys
import time
import traceback
import urllib.request
from pathlib import Path

RUN, OUT, TOKEN = Path(sys.argv[1]), Path(sys.argv[2]), os.environ["HF_TOKEN"]
REPO = "somebody/tiny-ticket"
NOW = {"headers": {"Retry-After": "0"}}


def control(faults: list[dict]) -> None:
    data = json.dumps(faults).encode()
    urllib.request.urlopen(urllib.request.Request(os.environ["HF_ENDPOINT"] + "/_fault", data)).read()


def state() -> dict:
    return json.load(urllib.request.urlopen(os.environ["HF_ENDPOINT"] + "/_state"))


def publish(*arguments: str, repo: str = REPO, faults: list[dict] | None = None, token: str | None = TOKEN) -> dict:
    """What ``audio-lottery publish`` exits with, prints and asks for."""
    from audio_lottery.cli import main

    os.environ.pop("HF_TOKEN", None)
    if token is not None:
        os.environ["HF_TOKEN"] = token
    control(faults or [])
    asked, before = len(state()["asked"]), time.monotonic()
    logging.root.handlers.clear()  # basicConfig binds the stderr of its first call
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        code = main(["publish", str(RUN), "--repo", repo, *arguments])
    os.environ["HF_TOKEN"] = TOKEN
    after = state()
    return {
        "code": code,
        "out": out.getvalue(),
        "err": err.getvalue(),
        "asked": after["asked"][asked:],
        "commits": after["commits"].get(repo, 0),
        "folder": (RUN / "publish").exists(),
        "seconds": time.monotonic() - before,
    }


def killed(repo: str) -> dict:
    """A publication that is killed while it sends weights that the Hub has not had before."""
    control([{"match": "PUT /_lfs/", "times": 1, "stall": True}])
    child = os.fork()
    if child == 0:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            from audio_lottery.cli import main

            main(["publish", str(RUN), "--round", "0", "--repo", repo, "--sample", "0"])
        os._exit(0)
    until = time.monotonic() + 120
    while not state()["stalled"] and time.monotonic() < until:
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    return {"signal": os.WTERMSIG(status), "commits": state()["commits"].get(repo, 0)}


def raised() -> str:
    """The traceback of a refused publication, as a user of the package sees it."""
    from audio_lottery.publish.hub import Hub

    control([{"match": "POST /api/repos/create", "times": 1, "status": 403, "says": f"no, {TOKEN}"}])
    try:
        Hub("somebody/other", TOKEN).create(True)
    except Exception:
        return traceback.format_exc()
    return ""


def edit_card(text: str) -> None:
    from huggingface_hub import HfApi, ModelCard

    card = ModelCard.load(REPO)
    card.data.license = "mit"
    card.data["thanks_to"] = "the talkers"
    card.data.tags.append("mine")
    card.text = f"A word above.\n{card.text}\n{text}\n"
    HfApi().upload_file(path_or_fileobj=str(card).encode(), path_in_repo="README.md", repo_id=REPO)


def load() -> dict:
    """Load what was published in every way that its card names."""
    import torch
    from huggingface_hub import ModelCard
    from safetensors.torch import save_file
    from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

    from audio_lottery.config import ModelConfig
    from audio_lottery.models.load import load_backbone
    from audio_lottery.pruning import check, enforce
    from audio_lottery.publish import load_ticket

    ticket = load_ticket(REPO, revision="round-02")
    plain = Wav2Vec2ForCTC.from_pretrained(REPO, revision="round-02")
    rewind_point = load_backbone(ModelConfig(init=REPO, revision="round-02"), seed=0).module
    for name, model in {"ticket": ticket.model, "plain": plain, "init": rewind_point}.items():
        save_file({key: value.clone() for key, value in model.state_dict().items()}, OUT / f"{name}.safetensors")
    audio = torch.randn(1, 8_000, generator=torch.Generator().manual_seed(0))
    ticket.model.eval()
    with torch.no_grad():
        expected, fast = ticket.model(audio).logits, ticket.accelerated()(audio).logits
    optimizer = torch.optim.AdamW(ticket.model.parameters(), lr=1e-2)
    with enforce(ticket.mask, ticket.model, optimizer):
        ticket.model(audio).logits.square().mean().backward()
        optimizer.step()
    check(ticket.mask, ticket.model)
    card = ModelCard.load(REPO)
    return {
        "processor": type(Wav2Vec2Processor.from_pretrained(REPO)).__name__,
        "mask": ticket.mask.sha256(),
        "round": ticket.provenance["round"],
        "revision": ticket.revision,
        "close": bool(torch.allclose(expected, fast, atol=1e-4)),
        "trained": bool((plain.lm_head.weight != ticket.model.lm_head.weight).any()),
        "card": card.data.to_dict(),
        "text": card.text,
    }


def searched() -> dict:
    """A search whose rewind point is the published ticket."""
    from dataclasses import replace

    from audio_lottery.config import ModelConfig, SearchConfig
    from audio_lottery.lottery.search import search
    from audio_lottery.settings import read_config

    config = replace(
        read_config(RUN / "config.yaml"),
        run_dir=str(OUT / "again"),
        model=ModelConfig(init=REPO),
        search=SearchConfig(0),
    )
    return {"rounds": len(search(config))}


results = {
    "no token": publish("--round", "best", token=None),
    "dry run": publish("--round", "best", "--dry-run", "--sample", "2", token=None),
    "wrong token": publish("--round", "2", token="hf_wrong"),
    "forbidden": publish(
        "--round", "2", "--sample", "0", faults=[{"match": "POST /api/repos/create", "times": 9, "status": 403}]
    ),
    "busy for a while": publish(
        "--round",
        "2",
        faults=[
            {"match": "POST /api/repos/create", "times": 2, "status": 429} | NOW,
            {"match": "/preupload/", "times": 1, "status": 500} | NOW,
            {"match": "/commit/", "times": 1, "status": 503} | NOW,
        ],
    ),
    "again": publish("--round", "2"),
}
edit_card("A word below.")
results |= {
    "edited card": publish("--round", "1", "--sample", "0"),
    "branch": publish("--round", "2", "--branch", "--sample", "0"),
    "broken": publish(
        "--round", "2", "--sample", "0", faults=[{"match": "/commit/", "times": 99, "status": 500} | NOW]
    ),
    "wait an hour": publish(
        "--round",
        "2",
        "--sample",
        "0",
        faults=[{"match": "/commit/", "times": 99, "status": 429, "headers": {"Retry-After": "3600"}}],
    ),
    "conflict": publish("--round", "2", "--sample", "0", faults=[{"match": "/commit/", "times": 1, "status": 409}]),
    "killed": killed("somebody/killed"),
    "after the kill": publish("--round", "0", "--sample", "0", repo="somebody/killed"),
    "public": publish("--round", "2", "--sample", "0", "--public", repo="somebody/open"),
    "not public": publish("--round", "2", "--sample", "0", repo="somebody/open"),
    "raised": raised(),
}
control([])
results |= {"loaded": load(), "searched": searched()}
(OUT / "results.json").write_text(json.dumps(results))
