"""Training and measuring: `fit`, `evaluate` and `predict`."""

import contextlib
import functools
import inspect
import math
import time
import warnings
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from cnnlib.data import batches
from cnnlib.data.datasets import check_dataset
from cnnlib.ground.env import best_device, own_randomness
from cnnlib.ground.errors import (
    CheckpointError,
    ParameterError,
    Stopped,
    check_positive,
    check_seed,
    check_whole,
    kind_of,
)
from cnnlib.ground.files import as_path
from cnnlib.ground.progress import progress_bar
from cnnlib.models.hooks import (
    as_input,
    channels_last,
    check_gradients,
    check_labels,
    check_logits,
    check_model,
    check_tensor,
    check_values,
    evaluation,
    quick_layout,
    train_mode,
)
from cnnlib.models.hooks import run as run_model
from cnnlib.train.checkpoint import check_generators, load_checkpoint, plain, save_checkpoint
from cnnlib.train.identity import check_identity, checksum_of, describe, without_addresses
from cnnlib.train.run import DeferredInterrupt, History, TrainingRun, loss_value


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

    Raises:
        ParameterError: `total_steps` is no whole number from 1 on, or `warmup` no share.

    Source: Smith 2018, "A Disciplined Approach to Neural Network Hyper-Parameters", sec. 4 (the
        one-cycle policy, here without its final phase).
    First built in: notebooks/03_mnist_cnn.ipynb
    """
    total_steps, warmup = check_whole("total_steps", total_steps), check_positive("warmup", warmup, zero=True)
    if warmup >= 1:
        raise ParameterError(f"warmup is {warmup!r}; it must lie between 0 and 1, a share of the steps")
    peak = max(1.0, warmup * total_steps)

    def factor(step):
        return min((step + 1) / peak, max(0.0, (total_steps - step) / (total_steps - peak + 1)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


FAST = {
    "batch_size": 256,
    "lr": 0.03,
    "optimizer": functools.partial(torch.optim.Adam, betas=(0.7, 0.9), fused=True),
    "schedule": warmup_linear,
    "loss": functools.partial(F.cross_entropy, label_smoothing=0.2),
}
"""Settings of `fit` for few steps, `fit(model, train, epochs=1, **FAST)`, of a small network with batch norm.

The high rate needs the warm-up. Short memories (betas) suit a run of a hundred steps, in which the gradient's
scale changes fast. Fused, Adam's step is one call for all weights. Smoothed labels keep the logits small
(Szegedy et al. 2016, arXiv 1512.00567, sec. 7).
First built in: notebooks/12_training_speed.ipynb
"""


_EXAMPLES = {
    "optimizer": "torch.optim.Adam",
    "loss": "torch.nn.functional.cross_entropy",
    "schedule": "cnnlib.train.warmup_linear",
}


def predict(model, images, batch_size=1000):
    """Return a model's logits, computed in evaluation mode and without gradients.

    Args:
        model: images (N, C, H, W) float 0–1 → logits. The mode of each layer is restored afterwards.
        images: (N, C, H, W) uint8, or float already on the scale 0–1, on any device. The model gets them on
            its device and in its dtype, such as float16.
        batch_size: images a forward pass; it bounds the memory.

    Returns:
        (N, K) float tensor on the CPU, float32 at least.

    Raises:
        ParameterError: no model, images that it cannot take, of whole numbers other than uint8, or floats on
            the scale 0–255.
        DataError: images (N, H, W, C).
    """
    return _logits(model, images, batch_size, torch.device("cpu"))


def _logits(model, images, batch_size, device=None):
    """Return a model's logits, (N, K), on a device; None: where the model is."""
    check_model(model)
    batch_size = check_whole("batch_size", batch_size)
    _check_scale(images)

    def all_chunks():
        # Not inference_mode: what is made in it, such as the weights of lazy layers, can never be trained.
        with evaluation(model), torch.no_grad():
            return torch.cat([_chunk(model, chunk, device) for chunk in images.split(batch_size)])

    try:
        with channels_last(model):
            return all_chunks()
    except ParameterError:
        with quick_layout(model, images[:2]):  # the same error, or no longer
            return all_chunks()


def _chunk(model, images, device):
    logits = run_model(model, images)
    check_logits(logits, images)
    return logits.to(device or logits.device, torch.promote_types(logits.dtype, torch.float32))


# A tenth of a byte's range: no standardised pixel is so large, and nearly every picture in bytes has one.
_TENTH = 25.5


def _check_scale(images):
    """Refuse pixels that were turned into floats and not divided by 255; what is standardised passes."""
    check_tensor(images)
    pixels = images.ndim == 4 and images.shape[1] in (1, 3)  # others are maps of an inner layer
    if pixels and images.is_floating_point() and images.numel():
        highest = max(images.aminmax(), key=abs).item()  # bytes less 128 lie on that scale too
        if abs(highest) > _TENTH:
            raise ParameterError(
                f"images are {images.dtype} and go up to {highest:.4g}; floats must lie on the scale 0–1: "
                "divide the pixels by 255, or leave them uint8"
            )


def evaluate(model, data, loss=F.cross_entropy, batch_size=1000):
    """Measure a model on a data set, in evaluation mode and without gradients.

    Args:
        model: images (N, C, H, W) float 0–1 → logits (N, K).
        data: Dataset, not empty.
        loss: function of logits and labels, both where the model is, that returns their mean loss.
        batch_size: images a forward pass; it changes memory and time, not the result.

    Returns:
        Score: loss, accuracy (0 to 1), correct, total.

    Raises:
        ParameterError: there are no data, a label has no logit, or the loss is no mean of the two.
    """
    _check_data("data", data, like=True)
    logits = _logits(model, data.images, batch_size)
    check_labels(data.labels, logits)
    labels = data.labels.to(logits.device)
    correct = int((logits.argmax(dim=1) == labels).sum())
    return Score(loss_value(loss, logits, labels).item(), correct / len(data), correct, len(data))


def _check_data(name, data, like=False):
    check_dataset(name, data, like)
    check_whole(f"len({name})", len(data))


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
    go_on=False,
):
    """Train a model in place.

    An interrupt (the stop button, Ctrl-C) ends the run after the step at hand, and with it the cell: the
    model keeps what it has learned, and what would come next does not begin, as long as `go_on` does not
    ask for it. A second one ends the run at once. A loss that is no longer finite ends the run too.

    With a checkpoint, the run's whole state (weights, optimizer, schedule, random generators, place
    in the epoch) is saved there after each epoch. The same call made again goes on from that state
    and ends with the very same weights as a run that was never stopped, wherever it was killed.
    Of the model that state is its `state_dict()`. What a layer counts or collects in plain attributes is not
    part of it and would begin anew: make it a buffer (`register_buffer`), or give it in `get_extra_state`.

    Args:
        model: images (N, C, H, W) float 0–1 → logits (N, K). It is moved to the device. What is frozen
            (`requires_grad_(False)`) stays as it is, the running statistics of batch normalisations too.
        train: Dataset, not empty.
        val: Dataset measured after each epoch, not empty, or None.
        epochs: passes over `train`, at least 1.
        batch_size: images a step.
        lr: learning rate, above 0; the peak where there is a schedule.
        optimizer: function of (parameters, lr) that returns an optimizer, such as torch.optim.SGD or
            functools.partial(torch.optim.SGD, momentum=0.9).
        schedule: function of (optimizer, total_steps) that returns a learning-rate scheduler, such as
            `warmup_linear`; None keeps the rate. It is stepped after each step of the optimizer.
        loss: function of logits (N, K) and labels (N,) that returns their mean loss. A module is moved to
            the device too.
        seed: int from 0 on that decides the order of the images and the model's own randomness, such as
            dropout, whether torch, NumPy or Python draws it from its global generator. The caller's
            generators are left as they were.
        device: "auto", "cpu", "cuda", …; see `cnnlib.ground.env.best_device`.
        checkpoint: path of the checkpoint file, or None.
        checkpoint_steps: save every so many steps too, at least 1.
        progress: whether to show how far the run is and how long it may still take, and a line at the end.
        go_on: True: after an interrupt `fit` returns, and the history says `interrupted`.

    Returns:
        History

    Raises:
        Stopped: an interrupt, when the model and the checkpoint are as the last step left them. It is a
            KeyboardInterrupt; its `history` is that of the run.
        ParameterError: an argument outside its range, labels and logits that do not fit together, a last
            batch of one image where batch normalisation needs two, or what a checkpoint cannot hold.
        CheckpointError: the checkpoint cannot be read, or belongs to another run.
        OSError: the checkpoint cannot be written.

    First built in: notebooks/03_mnist_cnn.ipynb
    """
    epochs, batch_size = check_whole("epochs", epochs), check_whole("batch_size", batch_size)
    seed = check_seed(seed)
    for name, value in (("optimizer", optimizer), ("loss", loss), ("schedule", schedule)):
        if not callable(value) and not (name == "schedule" and value is None):
            shown = " ".join(f"{value!r:.60}".split())  # an optimizer's own text has several lines
            raise ParameterError(f"{name} is {shown}; it must be a function, such as {_EXAMPLES[name]}")
    check_model(model)
    check_values(model)
    learned = [p for p in model.parameters() if p.requires_grad]
    if not learned:
        raise ParameterError(
            "the model has no parameter that can be trained; thaw some: requires_grad_(True)"
        )
    coarse = next((p.dtype for p in learned if torch.finfo(p.dtype).bits < 32), None)
    if coarse:
        raise ParameterError(
            f"the model has {coarse} parameters, too coarse for the steps of training; model.float() makes "
            "them float32, and layers.MixedPrecision(model) computes in bfloat16"
        )
    _check_data("train", train)
    if val is not None:
        _check_data("val", val)
    lr = check_positive("lr", lr)
    checkpoint = None if checkpoint is None else as_path("checkpoint", checkpoint)
    if checkpoint_steps is not None:
        checkpoint_steps = check_whole("checkpoint_steps", checkpoint_steps)
        if checkpoint is None:
            raise ParameterError(f"checkpoint_steps is {checkpoint_steps}; it needs the path of a checkpoint")
    check_gradients("fit")
    device = best_device(device)
    if device.type == "meta":  # a model that is moved there has lost its values
        raise ParameterError('device is "meta", where nothing is computed; name another, such as "cpu"')
    model.to(device)
    if isinstance(loss, torch.nn.Module):
        loss.to(device)
    train, val = train.to(device), None if val is None else val.to(device)
    _check_logits(model, train, val)
    _check_last_batch(model, train, batch_size, device)

    layout = quick_layout(model, train.images[:2])
    steps_per_epoch = math.ceil(len(train) / batch_size)
    with DeferredInterrupt() as early:  # torch's first optimizer imports much, of which half would be no use
        # A list, not a generator: who sorts the parameters into groups goes over them several times.
        built = _build("optimizer", optimizer, list(model.parameters()), lr=lr)
    if early.requested:
        raise Stopped("Stopped before the first step.", History())
    _check_optimizer(built, learned)
    if checkpoint is not None:
        check_generators(model)
        # NumPy's numbers are read back as plain ones, and so the run begins with plain ones.
        for group in built.param_groups:
            group.update({k: plain(v, f"the optimizer's {k}") for k, v in group.items() if k != "params"})
    scheduler = _build("schedule", schedule, built, epochs * steps_per_epoch) if schedule else None
    _check_scheduler(scheduler, built, epochs * steps_per_epoch)
    run = TrainingRun(model, built, scheduler, loss, device)
    if checkpoint is not None:
        parts = (*model.modules(), *model.parameters(), *model.buffers())
        identity = {
            "model": without_addresses(str(model)),
            "weights": {name: list(p.shape) for name, p in model.named_parameters()},
            "train": _checksum(train),
            "val": "none" if val is None else _checksum(val),
            "batch_size": batch_size,
            "lr": lr,
            "optimizer": describe(optimizer, parts),
            "order of parameters": _order(model, built),
            "schedule": f"{describe(schedule, parts)} over {epochs} epochs" if schedule else "none",
            "loss": describe(loss, parts),
            "seed": seed,
        }

    def save():
        if checkpoint is not None:
            save_checkpoint(checkpoint, {"identity": identity, **run.state()})

    history = run.history
    begun_anew = checkpoint is not None and not Path(checkpoint).exists()
    with (
        _no_trace(run, checkpoint if begun_anew else None),
        layout,
        own_randomness(seed, device),
        DeferredInterrupt() as interrupt,
    ):
        if checkpoint is not None and not begun_anew:
            _resume(run, checkpoint, identity)
        else:
            save()  # a path or a state that cannot be saved shows now, not after an epoch
        order = torch.Generator().manual_seed(seed)
        for _ in range(run.epoch):  # a resumed run draws the orders of the epochs it has behind it
            torch.randperm(len(train), generator=order)
        begun, all_steps = time.perf_counter(), epochs * steps_per_epoch
        done = run.epoch * steps_per_epoch + run.step
        with progress_bar(all_steps, "step", show=progress, done=done) as bar:
            shown = not bar.disable
            while run.epoch < epochs and not (interrupt.requested or history.diverged):
                started = time.perf_counter()
                train_mode(model)
                for images, labels in islice(batches(train, batch_size, order), run.step, None):
                    run.learn(images, labels)
                    bar.update()
                    if interrupt.requested or history.diverged:
                        break
                    if checkpoint_steps and run.step % checkpoint_steps == 0:
                        save()
                if run.step == steps_per_epoch and not history.diverged:
                    score = None if val is None else evaluate(model, val, loss)
                    run.finish_epoch(len(train), batch_size, score, time.perf_counter() - started)
                    bar.set_postfix_str(_summary(history.epochs[-1]))
                    save()
        run.read_losses()
        history.interrupted = run.epoch < epochs and not history.diverged
        if history.interrupted:
            save()
    if interrupt.requested and not go_on:
        raise Stopped(_stopped(history, all_steps, checkpoint), history)
    if history.diverged:
        print(f"Stopped after {len(history.step_losses):,} steps: the loss is no longer finite.")
    elif shown and not history.interrupted:
        print(f"{_summary(history.epochs[-1])}, {time.perf_counter() - begun:.0f} s")
    return history


_BUILDS = {
    "optimizer": ("(parameters, lr)", "an optimizer", ("param_groups", "step", "zero_grad")),
    "schedule": ("(optimizer, total_steps)", "a learning-rate scheduler", ("step",)),
}


def _build(name, function, *arguments, **named):
    """Return the optimizer or the scheduler that a function builds, checked to be one that fit can step."""
    signature, kind, needed = _BUILDS[name]
    rule = f"{name} must be a function of {signature} that returns {kind}, such as {_EXAMPLES[name]}"
    try:
        built = function(*arguments, **named)
    except (TypeError, ValueError) as error:
        raise ParameterError(f"{name} cannot be built: {error}. {rule}") from error
    if not all(hasattr(built, attribute) for attribute in needed):
        raise ParameterError(f"{name} returns {kind_of(built)}. {rule}")
    missing = [
        parameter.name
        for parameter in inspect.signature(built.step).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if missing:
        raise ParameterError(
            f"{name} is {type(built).__name__}, whose step needs {', '.join(missing)}; fit makes steps "
            f"without it: take another, such as {_EXAMPLES[name]}, or write the loop yourself"
        )
    return built


def _check_optimizer(built, learned):
    held = {id(parameter) for group in built.param_groups for parameter in group["params"]}
    if held.isdisjoint(map(id, learned)):
        raise ParameterError(
            "the optimizer holds none of the model's parameters that can be trained; build it of those that "
            "it is given: lambda parameters, lr: torch.optim.SGD(parameters, lr=lr)"
        )


def _order(model, optimizer):
    """Return the names of each group's parameters: an optimizer's saved state goes by their order."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[names.get(id(p), "another") for p in group["params"]] for group in optimizer.param_groups]


@contextlib.contextmanager
def _no_trace(run, checkpoint):
    """Take the checkpoint of a run away that fails at its first step: the mended one is another run."""
    try:
        yield
    except ParameterError:
        if checkpoint is not None and not run.history.step_losses and not run.step:
            checkpoint.unlink(missing_ok=True)
        raise


def _check_scheduler(scheduler, optimizer, steps):
    if getattr(scheduler, "optimizer", optimizer) is not optimizer:
        raise ParameterError(
            "the schedule changes another optimizer's rate; build it of the one that it is given: "
            "lambda optimizer, total_steps: CosineAnnealingLR(optimizer, total_steps)"
        )
    if (getattr(scheduler, "total_steps", None) or steps) < steps:  # OneCycleLR's
        raise ParameterError(
            f"the schedule ends after {scheduler.total_steps} steps, the run makes {steps}; build it of the "
            "total_steps that it is given"
        )


def _resume(run, checkpoint, identity):
    saved = load_checkpoint(checkpoint)
    if not isinstance(saved.get("identity"), dict):
        raise CheckpointError(f"{checkpoint} was not written by fit; use another path")
    check_identity(checkpoint, saved["identity"], identity)
    try:
        run.restore(saved)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{checkpoint} does not hold the state of this run ({type(error).__name__}: {error!s:.80}); "
            "delete it to start afresh, or give this run a path of its own"
        ) from None


def _check_logits(model, train, val):
    """Find the mistakes that a first pass over two images shows, before any training."""
    logits = predict(model, train.images[:2])
    check_labels(train.labels, logits)
    if val is not None:
        if val.images.shape[1:] != train.images.shape[1:]:
            predict(model, val.images[:2])
        check_labels(val.labels, logits, "val's labels")
    if (logits >= 0).all() and torch.allclose(logits.sum(dim=1), torch.ones(len(logits))):
        warnings.warn(
            "The model returns probabilities. Cross-entropy takes logits and applies softmax itself: "
            "return the last layer's output as it is.",
            stacklevel=3,
        )


def _check_last_batch(model, train, batch_size, device):
    """Refuse batches of one image where a layer needs two in training, as batch normalisation may."""
    if batch_size > 1 and len(train) % batch_size != 1:
        return
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}  # it may change these
    with evaluation(model), own_randomness(0, device), torch.no_grad():
        train_mode(model)
        try:
            torch.func.functional_call(model, buffers, as_input(model, train.images[:1]))
        except ValueError as error:  # torch's "Expected more than 1 value per channel", or a ParameterError
            raise ParameterError(
                f"{len(train)} images in batches of {batch_size} leave one image for a batch, on which this "
                f"model cannot train ({error}). Take another batch_size, more images, or one less: train[:-1]"
            ) from None


def _checksum(data):
    return checksum_of(data.labels, checksum_of(data.images))


def _stopped(history, all_steps, checkpoint):
    steps = len(history.step_losses)
    if not history.interrupted:
        return f"Stopped, when all {steps:,} steps of this training were made; the model keeps them."
    again = "makes all its steps anew" if checkpoint is None else "goes on from here"
    return (
        f"Stopped after {steps:,} of {all_steps:,} steps; the model keeps what it learned in them. "
        f"The same training, run once more, {again}."
    )


def _summary(record):
    val = f", val {100 * record['val_accuracy']:.2f} %" if "val_accuracy" in record else ""
    return f"epoch {record['epoch']}: loss {record['train_loss']:.4f}{val}"
