"""The open challenge: a small network, trained within a minute of one core, asked for unseen images.

An entry is a function or class without arguments that builds the network, and a dict of settings. The budget
and the loop are the same for all, so that entries differ in what was thought of and not in what was spent.

    trained = train_entry(Net, {"epochs": 5, "lr": 0.01}, train)     # at most 60 s of one core
    labels = answer(Net, trained.state, images)

What was learned crosses from the one to the other as the numbers of a state dict, and only these are counted
and carried: a network that keeps its training images anywhere else has none of them when it is asked. So a
grader can train in one process and ask in another, which has no labels.

First built in: notebooks/11_capstone.ipynb
"""

import math
import time
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.data import batches, to_float
from cnnlib.ground.env import own_randomness
from cnnlib.ground.errors import ParameterError, check_positive, check_whole
from cnnlib.models.hooks import quick_layout
from cnnlib.models.layers import Normalize
from cnnlib.models.simple import SimpleCNN
from cnnlib.train import predict
from cnnlib.train.augment import RandomFlip

MAX_NUMBERS = 20_000
"""How many numbers an entry's state dict may hold: its parameters and its buffers."""
SECONDS = 60.0
"""CPU seconds of the process, on one thread, from building the network to the last step."""


class Rule(NamedTuple):
    """What a setting may be: its default, the least and the most, or the words to choose from."""

    default: object
    least: float = 0
    most: float = 1
    words: tuple = ()


SETTINGS = {
    "epochs": Rule(5, 1, 1000),  # passes over the training images, unless the budget ends first
    "batch_size": Rule(128, 2, 4096),
    "optimizer": Rule("adam", words=("adam", "sgd")),  # SGD with Nesterov's momentum of 0.9
    "lr": Rule(0.01, 1e-6, 10),  # the peak
    "warmup": Rule(0.2, 0, 0.9),  # share of the run in which the rate rises; then it falls to 0
    "weight_decay": Rule(0.0),
    "label_smoothing": Rule(0.0, 0, 0.9),
}


class Trained(NamedTuple):
    """What came of an entry.

    Attributes:
        state: dict from a name to a tensor: all that the network has learned.
        numbers: how many numbers that is.
        seconds: CPU seconds spent.
        steps: steps made.
        ended: "done" (all epochs), "budget" (the time was up) or "diverged" (the loss was no longer finite).
    """

    state: dict
    numbers: int
    seconds: float
    steps: int
    ended: str


def check_settings(settings):
    """Return settings with the defaults filled in.

    Raises:
        ParameterError: no dict, an unknown name, or a value outside its range; the message says which.
    """
    if not isinstance(settings, dict):
        raise ParameterError(f"settings are {settings!r:.80}; they must be a dict such as {{'lr': 0.01}}")
    if unknown := [name for name in settings if name not in SETTINGS]:
        raise ParameterError(f"there is no setting {unknown[0]!r}; choose from {', '.join(SETTINGS)}")
    chosen = {name: settings.get(name, rule.default) for name, rule in SETTINGS.items()}
    for name, value in chosen.items():
        default, least, most, words = SETTINGS[name]
        if words:
            if value not in words:
                raise ParameterError(f"{name} is {value!r:.80}; choose one of {', '.join(words)}")
        elif isinstance(default, int):
            if check_whole(name, value, least) > most:
                raise ParameterError(f"{name} is {value!r:.80}; it must be at most {most:,}")
        elif type(value) not in (int, float) or not least <= value <= most:
            raise ParameterError(f"{name} is {value!r:.80}; it must be a number from {least:g} to {most:g}")
    return chosen


def train_entry(build, settings, train, *, seconds=SECONDS, seed=0):
    """Train an entry within a budget, on one thread of the CPU, always by the same loop.

    The learning rate rises, then falls to 0 when the epochs are over or the time is up, whichever comes
    first: too many epochs cost nothing but the end of the last one. With time to spare the same seed gives
    the same weights; where the budget ends the run, the machine's speed decides too.

    Args:
        build: function or class without arguments that returns an nn.Module: images (N, 1, 28, 28) float 0–1
            → logits (N, K). Augmentation stands at its front, as `RandomFlip` does.
        settings: dict with some of the names in `SETTINGS`.
        train: Dataset.
        seconds: budget, above 0.
        seed: int from 0 on, for the initial weights, the order of the images and the network's randomness.

    Returns:
        Trained

    Raises:
        ParameterError: settings outside their ranges, no module, logits of another shape, more than
            `MAX_NUMBERS` numbers, or nothing that can be learned. Whatever the network itself raises.
    """
    started = time.process_time()
    chosen, seed = check_settings(settings), check_whole("seed", seed, least=0)
    check_positive("seconds", seconds)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with own_randomness(seed, torch.device("cpu")):
            model = _built(build, train.images[:2])
            steps, ended = _learn(
                model, chosen, train, seed, lambda: (time.process_time() - started) / seconds
            )
            numbers = _count(model)  # once more: it may have grown
    finally:
        torch.set_num_threads(threads)
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    return Trained(state, numbers, time.process_time() - started, steps, ended)


def answer(build, state, images):
    """Return the labels that a trained entry gives to images.

    A fresh network is built and given the state, so that nothing counts that was learned elsewhere.

    Args:
        build: as for `train_entry`.
        state: `Trained.state`.
        images: (N, 1, 28, 28) uint8.

    Returns:
        (N,) int64.

    Raises:
        ParameterError: the state belongs to another network.
    """
    model = _built(build, images[:2])
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise ParameterError(f"the state does not fit the network: {error!s:.300}") from None
    return predict(model, images).argmax(dim=1)


def _built(build, images):
    model = build()
    if not isinstance(model, nn.Module):
        raise ParameterError(f"the entry built {model!r:.80}; it must build an nn.Module")
    logits = predict(model, images)  # lazy layers get their sizes here
    if logits.ndim != 2 or len(logits) != len(images):
        raise ParameterError(f"the network returns {tuple(logits.shape)}; it must return (N, K) logits")
    if not any(p.requires_grad for p in model.parameters()):
        raise ParameterError("the network has no parameter that can be learned")
    _count(model)
    return model


def _count(model):
    numbers = sum(value.numel() for value in model.state_dict().values())
    if numbers > MAX_NUMBERS:
        raise ParameterError(
            f"the network's state dict holds {numbers:,} numbers, parameters and buffers; "
            f"at most {MAX_NUMBERS:,} are allowed"
        )
    return numbers


def _learn(model, chosen, train, seed, spent):
    """Train a model until spent(), the share of the budget that is gone, is 1; return steps and reason."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    options = {"lr": chosen["lr"], "weight_decay": chosen["weight_decay"]}
    if chosen["optimizer"] == "sgd":
        optimizer = torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **options)
    else:
        optimizer = torch.optim.Adam(parameters, **options)
    total = chosen["epochs"] * math.ceil(len(train) / chosen["batch_size"])
    order, steps = torch.Generator().manual_seed(seed), 0
    with quick_layout(model, train.images[:2]):
        model.train()
        for _ in range(chosen["epochs"]):
            for images, labels in batches(train, chosen["batch_size"], order):
                gone = spent()
                if gone >= 1:
                    return steps, "budget"
                if len(labels) < 2:  # too few for batch normalisation
                    continue
                rate = chosen["lr"] * _one_cycle(max(steps / total, gone), chosen["warmup"])
                for group in optimizer.param_groups:
                    group["lr"] = rate
                loss = F.cross_entropy(
                    model(to_float(images)), labels, label_smoothing=chosen["label_smoothing"]
                )
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                steps += 1
                if steps % 20 == 0 and not math.isfinite(loss.item()):
                    return steps, "diverged"
    return steps, "done"


def _one_cycle(share, warmup):
    """Return the learning rate as a share of its peak, when a share of the run is over."""
    if share < warmup:
        return max(0.02, share / warmup)
    return max(0.0, (1 - share) / (1 - warmup))


def baseline():
    """Build lesson 03's network at half its width: 11,276 numbers."""
    return nn.Sequential(Normalize(0.2860, 0.3530), SimpleCNN(width=8))


def strong():
    """Build an entry that is not easily beaten: batch norm, stride and narrow maps, mirrored images."""
    layers = [RandomFlip(), Normalize(0.2860, 0.3530)]
    layers += [nn.Conv2d(1, 16, kernel_size=5, stride=2, padding=2, bias=False)]  # (N, 16, 14, 14)
    layers += [nn.BatchNorm2d(16), nn.ReLU()]
    layers += [nn.Conv2d(16, 32, kernel_size=3, stride=2, padding=1, bias=False)]  # (N, 32, 7, 7)
    layers += [nn.BatchNorm2d(32), nn.ReLU()]
    layers += [nn.Conv2d(32, 36, kernel_size=3, padding=1, bias=False)]
    layers += [nn.MaxPool2d(2), nn.BatchNorm2d(36), nn.ReLU(), nn.Flatten()]  # (N, 36 · 3 · 3)
    return nn.Sequential(*layers, nn.Linear(36 * 3 * 3, 10))


ENTRIES = {
    "baseline": (baseline, {"epochs": 5, "batch_size": 64, "lr": 1e-3, "warmup": 0.0}),
    "strong": (strong, {"epochs": 6, "batch_size": 128, "lr": 0.02, "label_smoothing": 0.05}),
}
"""Two entries of ours, for the leaderboard: a name to (build, settings)."""
