"""A model, masks and optimisers small enough to train in a test of enforcement."""

from collections.abc import Callable

import torch
from torch import nn

from audio_lottery.pruning import Mask

OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.1),
    "adamw-foreach": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1, foreach=True),
    "adamw-fused": lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1, fused=True),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.05, weight_decay=0.1, amsgrad=True, foreach=False),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.05, weight_decay=0.1),
}


def build() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 4))


def random_mask(seed: int = 0, density: float = 0.3) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"0.weight": (16, 16), "2.weight": (4, 16)}
    return Mask({name: torch.rand(shape, generator=generator) < density for name, shape in shapes.items()})


def backward(model: nn.Module, seed: int, scaler: torch.amp.GradScaler | None = None) -> None:
    x = torch.randn(8, 16, generator=torch.Generator().manual_seed(seed))
    loss = model(x).square().mean()
    (loss if scaler is None else scaler.scale(loss)).backward()


def is_zero(mask: Mask, model: nn.Module) -> bool:
    return not any(bool(model.get_parameter(name)[~tensor].any()) for name, tensor in mask.items())


def warm(make: Callable[..., torch.optim.Optimizer]) -> tuple[nn.Module, torch.optim.Optimizer]:
    """A model after three dense steps: there is momentum on every weight before the mask comes."""
    model = build()
    optimizer = make(model.parameters())
    for seed in range(3):
        backward(model, seed)
        optimizer.step()
        optimizer.zero_grad()
    return model, optimizer
