"""The state of a training run: what a step and an epoch's end change, and what a checkpoint holds."""

import math
import signal
import threading
from dataclasses import asdict, dataclass, field

import torch
import torch.nn.functional as F

from cnnlib.ground.env import random_states, set_random_states
from cnnlib.ground.errors import CnnlibError, ParameterError, Stopped, first_line, kind_of
from cnnlib.models.hooks import as_input, check_logits


@dataclass
class History:
    """What happened in a training run.

    Attributes:
        epochs: one dict a finished epoch: epoch, train_loss, train_accuracy, val_loss, val_accuracy
            (both absent without a validation set), lr (of its last step), seconds. The training
            numbers are means over the epoch's images, taken while the weights changed.
        step_losses: the loss of every step.
        interrupted: whether a person stopped the run early; the model keeps what it had learned.
        diverged: whether the loss stopped being finite, which ends a run.
    """

    epochs: list[dict] = field(default_factory=list)
    step_losses: list[float] = field(default_factory=list)
    interrupted: bool = False
    diverged: bool = False

    def __getitem__(self, name):
        """Return one column, such as history["val_accuracy"], as a list with one value an epoch."""
        if self.epochs and name not in self.epochs[0]:
            raise ParameterError(f"history has no {name!r}; it has {list(self.epochs[0])}")
        return [record[name] for record in self.epochs]

    def frame(self):
        """Return the epochs as a pandas DataFrame, indexed by epoch."""
        import pandas as pd

        return pd.DataFrame(self.epochs).set_index("epoch") if self.epochs else pd.DataFrame()

    def __repr__(self):
        end = ", interrupted" if self.interrupted else ", diverged" if self.diverged else ""
        last = self.epochs[-1] if self.epochs else {}
        numbers = "".join(f", {k} {last[k]:.4f}" for k in ("train_loss", "val_accuracy") if k in last)
        return f"History({len(self.epochs)} epochs, {len(self.step_losses):,} steps{numbers}{end})"


class TrainingRun:
    """The state of a training run, and the two events that change it: a step and an epoch's end."""

    def __init__(self, model, optimizer, scheduler, loss, device):
        self.model, self.optimizer, self.scheduler, self.loss = model, optimizer, scheduler, loss
        self.device = device
        self.history = History()
        self.epoch = self.step = 0  # the place of the next batch
        self.correct = 0  # in this epoch; a tensor from the first step on
        self.lr = 0.0  # of the last step
        self.pending = []  # losses still on the device: reading each would make a GPU wait

    def learn(self, images, labels):
        logits = self.model(as_input(self.model, images))
        check_logits(logits, images)
        value = loss_value(self.loss, logits, labels)
        if not value.requires_grad:
            raise ParameterError(
                "the loss does not depend on the logits in a way that has a gradient; argmax, round, detach "
                "and item() cut it off"
            )
        self.optimizer.zero_grad()
        try:
            value.backward()
            self.optimizer.step()
        except (CnnlibError, torch.OutOfMemoryError):
            raise
        except RuntimeError as error:
            raise ParameterError(
                f"the model cannot make a step of training with {type(self.optimizer).__name__}: "
                f"{first_line(error)[:300]}. Mend the layer that this names (one that works in place spoils "
                "what the layer before it needs), or take another optimizer, such as torch.optim.Adam"
            ) from error
        self.lr = float(self.optimizer.param_groups[0]["lr"])
        if self.scheduler:
            self.scheduler.step()
        self.correct += (logits.detach().argmax(dim=1) == labels).sum()
        self.pending.append(value.detach())
        self.step += 1
        if self.step % 10 == 0:
            self.read_losses()

    def read_losses(self):
        values = torch.stack(self.pending).tolist() if self.pending else []
        self.pending.clear()
        self.history.step_losses += values
        self.history.diverged |= not all(map(math.isfinite, values))

    def finish_epoch(self, images, batch_size, score, seconds):
        self.read_losses()
        *losses, last = self.history.step_losses[-self.step :]
        rest = images - batch_size * len(losses)  # the last batch may be smaller, and counts as much less
        record = {
            "epoch": self.epoch + 1,
            "train_loss": (batch_size * sum(losses) + rest * last) / images,
            "train_accuracy": int(self.correct) / images,
        }
        if score is not None:
            record |= {"val_loss": score.loss, "val_accuracy": score.accuracy}
        self.history.epochs.append(record | {"lr": self.lr, "seconds": seconds})
        self.epoch, self.step, self.correct = self.epoch + 1, 0, 0

    def state(self):
        self.read_losses()
        return {
            "epoch": self.epoch,
            "step": self.step,
            "correct": int(self.correct),
            "lr": self.lr,
            "history": asdict(self.history),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict() if self.scheduler else None,
            "random": random_states(self.device),
        }

    def restore(self, state):
        self.epoch, self.step, self.correct = state["epoch"], state["step"], state["correct"]
        self.lr = state["lr"]
        vars(self.history).update(state["history"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.scheduler:
            self.scheduler.load_state_dict(state["scheduler"])
        set_random_states(self.device, state["random"])


def loss_value(loss, logits, labels):
    """Return what a loss function makes of logits and labels, checked to be a tensor of one number."""
    try:
        value = loss(logits, labels)
    except (CnnlibError, torch.OutOfMemoryError):
        raise
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ParameterError(
            f"loss cannot take logits {tuple(logits.shape)} and labels {tuple(labels.shape)}: "
            f"{first_line(error)}. It must be a function of both, such as torch.nn.functional.cross_entropy "
            "or nn.CrossEntropyLoss()"
        ) from error
    if not isinstance(value, torch.Tensor) or value.numel() != 1:
        shape = f" {tuple(value.shape)}" if isinstance(value, torch.Tensor) else ""
        raise ParameterError(
            f"loss returns {kind_of(value)}{shape}; it must return the mean loss, a tensor of one "
            'number: reduction="mean", and a class is built first: nn.CrossEntropyLoss()'
        )
    reduction = getattr(loss, "reduction", None) or getattr(loss, "keywords", {}).get("reduction")
    if reduction == "sum":
        raise ParameterError(
            'loss has the reduction "sum"; it must be "mean", so that neither lr nor a score depends on '
            "how many images there are"
        )
    negative = loss is F.nll_loss or isinstance(loss, torch.nn.NLLLoss)
    if negative and logits.logsumexp(dim=1).abs().max() > 1e-2:
        raise ParameterError(
            "loss is nll_loss, which takes the logarithms of probabilities, which these are not; take "
            "torch.nn.functional.cross_entropy, which takes logits"
        )
    return value


class DeferredInterrupt:
    """Turns the first SIGINT into a request to stop, so that no step is cut in half."""

    requested = False

    def __enter__(self):
        # Only the main thread may handle signals, and only a handler of Python's can be put back: inside
        # another program, such as R, it may be None. There an interrupt does what it always does.
        self.main = threading.current_thread() is threading.main_thread()
        self.main = self.main and signal.getsignal(signal.SIGINT) is not None
        if self.main:
            self.previous = signal.signal(signal.SIGINT, self.handle)
        return self

    def handle(self, *_):
        if self.requested:
            raise Stopped("Stopped at once, within a step.")
        self.requested = True

    def __exit__(self, *_):
        if self.main:
            signal.signal(signal.SIGINT, self.previous)
