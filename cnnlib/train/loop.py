"""Training and measuring: `fit`, `evaluate` and `predict`."""

import functools
import math
import sys
import time
import warnings
import zlib
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from tqdm import tqdm

from cnnlib.data import batches, to_float
from cnnlib.ground.env import best_device
from cnnlib.ground.errors import ParameterError, check_whole
from cnnlib.models.hooks import channels_last, evaluation
from cnnlib.train.checkpoint import check_identity, load_checkpoint, save_checkpoint
from cnnlib.train.run import DeferredInterrupt, TrainingRun, own_randomness


class Score(NamedTuple):
    """A model's result on a data set: mean loss, share of correct predictions, and their count."""

    loss: float
    accuracy: float
    correct: int
    total: int


def warmup_linear(optimizer, total_steps, warmup=0.2):
    """Raise the learning rate linearly over the first steps, then lower it linearly to zero.

    Args:
        optimizer: its learning rate becomes the peak.
        total_steps: steps of the whole run, at least 1.
        warmup: share of the steps spent rising, between 0 and 1 (both excluded).

    Returns:
        torch.optim.lr_scheduler.LRScheduler, to be stepped after every optimizer step.

    Source: Smith 2018, "A Disciplined Approach to Neural Network Hyper-Parameters", sec. 4 (the
        one-cycle policy, here without its final phase).
    First built in: notebooks/03_mnist_cnn.ipynb
    """
    peak = max(1.0, warmup * total_steps)

    def factor(step):
        return min((step + 1) / peak, max(0.0, (total_steps - step) / (total_steps - peak + 1)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


FAST = {
    "batch_size": 256,
    "lr": 0.03,
    "optimizer": functools.partial(torch.optim.Adam, betas=(0.7, 0.9)),
    "schedule": warmup_linear,
    "loss": functools.partial(F.cross_entropy, label_smoothing=0.2),
}
"""Settings of `fit` for few steps, `fit(model, train, epochs=1, **FAST)`, of a small network with batch norm.

The high rate needs the warm-up. Short memories (betas) suit a run of a hundred steps, in which the gradient's
scale changes fast. Smoothed labels keep the logits small (Szegedy et al. 2016, arXiv 1512.00567, sec. 7).
First built in: notebooks/11_capstone.ipynb
"""


def predict(model, images, batch_size=1000):
    """Return a model's logits, computed in evaluation mode and without gradients.

    Args:
        model: images (N, C, H, W) float 0–1 → logits. The mode of each layer is restored afterwards.
        images: (N, C, H, W) uint8, or float already on the scale 0–1.
        batch_size: images a forward pass; it bounds the memory.

    Returns:
        (N, K) float tensor on the CPU.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    with channels_last(model), evaluation(model), torch.inference_mode():
        return torch.cat([model(to_float(chunk.to(device))).cpu() for chunk in images.split(batch_size)])


def evaluate(model, data, loss=F.cross_entropy, batch_size=1000):
    """Measure a model on a data set, in evaluation mode and without gradients.

    Args:
        model: images (N, C, H, W) float 0–1 → logits (N, K).
        data: Dataset, not empty.
        loss: function of logits and labels that returns their mean loss.
        batch_size: images a forward pass; it changes memory and time, not the result.

    Returns:
        Score: loss, accuracy (0 to 1), correct, total.
    """
    logits = predict(model, data.images, batch_size)
    labels = data.labels.cpu()
    correct = int((logits.argmax(dim=1) == labels).sum())
    return Score(loss(logits, labels).item(), correct / len(data), correct, len(data))


def fit(
    model,
    train,
    val=None,
    *,
    epochs,
    batch_size=128,
    lr=1e-3,
    optimizer=torch.optim.Adam,
    schedule=None,
    loss=F.cross_entropy,
    seed=0,
    device="auto",
    checkpoint=None,
    checkpoint_steps=None,
    progress=True,
):
    """Train a model in place.

    An interrupt (the stop button, Ctrl-C) ends the run after the step at hand: the model keeps what
    it has learned and the history says so; a second one ends it at once. A loss that is no longer
    finite ends the run too.

    With a checkpoint, the run's whole state (weights, optimizer, schedule, random generators, place
    in the epoch) is saved there after each epoch. The same call made again goes on from that state
    and ends with the very same weights as a run that was never stopped, wherever it was killed.

    Args:
        model: images (N, C, H, W) float 0–1 → logits (N, K). It is moved to the device.
        train: Dataset, not empty.
        val: Dataset measured after each epoch, or None.
        epochs: passes over `train`, at least 1.
        batch_size: images a step.
        lr: learning rate, above 0; the peak where there is a schedule.
        optimizer: function of (parameters, lr) that returns an optimizer, such as torch.optim.SGD or
            functools.partial(torch.optim.SGD, momentum=0.9).
        schedule: function of (optimizer, total_steps) that returns a learning-rate scheduler, such as
            `warmup_linear`; None keeps the rate.
        loss: function of logits (N, K) and labels (N,) that returns their mean loss.
        seed: int that decides the order of the images and the model's own randomness, such as
            dropout. The caller's generators are left as they were.
        device: "auto", "cpu", "cuda", …; see `cnnlib.ground.env.best_device`.
        checkpoint: path of the checkpoint file, or None.
        checkpoint_steps: save every so many steps too, at least 1.
        progress: whether to show a progress bar.

    Returns:
        History

    Raises:
        ParameterError: an argument outside its range, or labels and logits that do not fit together.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.

    First built in: notebooks/03_mnist_cnn.ipynb
    """
    for name, value in (("epochs", epochs), ("batch_size", batch_size), ("len(train)", len(train))):
        check_whole(name, value)
    if not lr > 0:
        raise ParameterError(f"lr is {lr!r}; it must be above 0")
    if checkpoint_steps is not None and (checkpoint is None or checkpoint_steps < 1):
        raise ParameterError(
            f"checkpoint_steps is {checkpoint_steps!r} with checkpoint={checkpoint!r}; it must be 1 "
            "or more, and needs the path of a checkpoint"
        )
    device = best_device(device)
    model.to(device)
    train, val = train.to(device), None if val is None else val.to(device)
    _check_logits(model, train)

    steps_per_epoch = math.ceil(len(train) / batch_size)
    built = optimizer(model.parameters(), lr=lr)
    scheduler = schedule(built, epochs * steps_per_epoch) if schedule else None
    run = TrainingRun(model, built, scheduler, loss)
    if checkpoint is not None:
        identity = {
            "model": str(model),
            "train": _checksum(train),
            "val": "none" if val is None else _checksum(val),
            "batch_size": batch_size,
            "lr": lr,
            "optimizer": _name(optimizer),
            "schedule": f"{_name(schedule)} over {epochs} epochs" if schedule else "none",
            "loss": _name(loss),
            "seed": seed,
        }

    def save():
        if checkpoint is not None:
            save_checkpoint(checkpoint, {"identity": identity, **run.state()})

    history = run.history
    with channels_last(model), own_randomness(seed, device), DeferredInterrupt() as interrupt:
        if checkpoint is not None and Path(checkpoint).exists():
            saved = load_checkpoint(checkpoint)
            check_identity(checkpoint, saved["identity"], identity)
            run.restore(saved)
        order = torch.Generator().manual_seed(seed)
        for _ in range(run.epoch):  # a resumed run draws the orders of the epochs it has behind it
            torch.randperm(len(train), generator=order)
        bar = tqdm(
            total=epochs * steps_per_epoch,
            initial=run.epoch * steps_per_epoch + run.step,
            disable=not progress,
            file=sys.stdout,  # what goes to stderr is shown on red in a notebook
            unit="step",
            ncols=100,
            mininterval=0.5,
        )
        with bar:
            while run.epoch < epochs and not (interrupt.requested or history.diverged):
                started = time.perf_counter()
                model.train()
                for images, labels in islice(batches(train, batch_size, order), run.step, None):
                    run.learn(images, labels)
                    bar.update()
                    if interrupt.requested or history.diverged:
                        break
                    if checkpoint_steps and run.step % checkpoint_steps == 0:
                        save()
                if run.step == steps_per_epoch and not history.diverged:
                    score = None if val is None else evaluate(model, val, loss)
                    run.finish_epoch(len(train), score, time.perf_counter() - started)
                    bar.set_postfix_str(_summary(history.epochs[-1]))
                    save()
        run.read_losses()
        history.interrupted = run.epoch < epochs and not history.diverged
        if history.interrupted:
            save()
    if history.interrupted:
        print(f"Interrupted after {len(history.step_losses):,} steps; the model keeps them.")
    if history.diverged:
        print(f"Stopped after {len(history.step_losses):,} steps: the loss is no longer finite.")
    return history


def _check_logits(model, train):
    """Find the mistakes that a first pass over two images shows, before any training."""
    try:
        logits = predict(model, train.images[:2])
    except RuntimeError as error:
        error.add_note(f"The model was given images of shape {tuple(train.images[:2].shape)}.")
        raise
    if logits.ndim != 2:
        raise ParameterError(f"the model returns {tuple(logits.shape)}; it must return (N, K) logits")
    highest = int(train.labels.max())
    if int(train.labels.min()) < 0 or highest >= logits.shape[1]:
        raise ParameterError(
            f"labels go from {int(train.labels.min())} to {highest}, but the model returns "
            f"{logits.shape[1]} logits, for labels 0 to {logits.shape[1] - 1}"
        )
    if (logits >= 0).all() and torch.allclose(logits.sum(dim=1), torch.ones(len(logits))):
        warnings.warn(
            "The model returns probabilities. Cross-entropy takes logits and applies softmax itself: "
            "return the last layer's output as it is.",
            stacklevel=3,
        )


def _checksum(data):
    return zlib.crc32(data.labels.cpu().numpy(), zlib.crc32(data.images.cpu().numpy()))


def _name(function):
    """Describe a function so that another run's can be compared with it."""
    if isinstance(function, functools.partial):
        arguments = [
            *map(repr, function.args),
            *(f"{k}={v!r}" for k, v in function.keywords.items()),
        ]
        return f"{_name(function.func)}({', '.join(arguments)})"
    return getattr(function, "__qualname__", repr(function))


def _summary(record):
    val = f", val {100 * record['val_accuracy']:.2f} %" if "val_accuracy" in record else ""
    return f"epoch {record['epoch']}: loss {record['train_loss']:.4f}{val}"
