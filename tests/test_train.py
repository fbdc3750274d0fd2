import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.data import Dataset, to_float
from cnnlib.ground.errors import CheckpointError, ParameterError
from cnnlib.train import evaluate, fit, predict, warmup_linear
from cnnlib.train.run import History


def make(seed=0):
    """A small model with everything that carries state: batch norm and dropout."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, kernel_size=5, stride=4),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(144, 3),
    )


quiet = partial(fit, batch_size=16, lr=0.01, device="cpu", progress=False)


def same(a, b):
    pairs = zip(a.state_dict().values(), b.state_dict().values(), strict=True)
    return all(torch.equal(x, y) for x, y in pairs)


def test_fit_learns_and_tells_its_history(blobs):
    model = make()
    history = quiet(model, blobs[:100], blobs[100:], epochs=4)
    assert list(history.epochs[0]) == [
        *("epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "lr", "seconds")
    ]
    assert len(history.step_losses) == 4 * 7
    assert history["train_loss"][0] == pytest.approx(sum(history.step_losses[:7]) / 7)
    assert history["val_accuracy"][-1] == evaluate(model, blobs[100:]).accuracy > 0.9
    assert history.frame().index.tolist() == [1, 2, 3, 4]
    assert repr(history).startswith("History(4 epochs, 28 steps, train_loss 0.")
    assert not history.interrupted
    assert not history.diverged
    with pytest.raises(ParameterError, match="history has no 'accuracy'; it has"):
        history["accuracy"]


def test_fit_is_the_plain_loop(blobs):
    """The same steps, written out: order of the images, loss, optimizer and schedule."""
    ours, plain = make(), make()
    quiet(ours.eval(), blobs, epochs=2, optimizer=torch.optim.SGD, schedule=warmup_linear, seed=3)
    plain.to(memory_format=torch.channels_last)  # as `fit` does: rounding depends on it
    optimizer = torch.optim.SGD(plain.parameters(), lr=0.01)
    scheduler = warmup_linear(optimizer, 2 * 8)
    order = torch.Generator().manual_seed(3)
    torch.manual_seed(3)  # dropout
    for _ in range(2):
        for indices in torch.randperm(120, generator=order).split(16):
            optimizer.zero_grad()
            F.cross_entropy(plain(blobs.images[indices] / 255), blobs.labels[indices]).backward()
            optimizer.step()
            scheduler.step()
    assert same(ours, plain)
    assert ours.training  # fit trains in training mode, whatever the mode was


def test_weights_lie_as_the_kernels_want_them_while_fit_and_predict_run_and_as_before_afterwards(blobs):
    class Spy(nn.Conv2d):
        quick = ()

        def forward(self, images):
            self.quick += (self.weight.is_contiguous(memory_format=torch.channels_last),)
            return super().forward(images)

    inner = Spy(4, 4, kernel_size=3, padding=1)
    model = nn.Sequential(nn.Conv2d(1, 4, kernel_size=5, stride=4), inner, nn.Flatten(), nn.Linear(144, 3))
    own = nn.Parameter(torch.rand(2, 3, 4, 5).permute(0, 3, 1, 2))  # laid out so by the caller
    model.register_parameter("own", own)
    strides = [p.stride() for p in model.parameters()]
    quiet(model, blobs[:100], blobs[100:], epochs=1)
    predict(model, blobs.images)
    assert all(inner.quick)
    assert len(inner.quick) > 7
    assert [p.stride() for p in model.parameters()] == strides
    with pytest.raises(RuntimeError):
        predict(model, blobs.images[:, :, :5])
    assert [p.stride() for p in model.parameters()] == strides


def test_predict_takes_a_model_whose_layers_wait_for_their_first_images(blobs):
    model = nn.Sequential(nn.LazyConv2d(4, kernel_size=5, stride=4), nn.Flatten(), nn.LazyLinear(3))
    assert predict(model, blobs.images).shape == (120, 3)


def test_a_seed_decides_the_run_and_nothing_else_does(blobs):
    models = [make() for _ in range(3)]
    torch.manual_seed(11)
    quiet(models[0], blobs, epochs=1, seed=1)
    after = torch.rand(1)
    torch.manual_seed(99)
    quiet(models[1], blobs, epochs=1, seed=1)
    quiet(models[2], blobs, epochs=1, seed=2)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])
    torch.manual_seed(11)
    assert torch.equal(torch.rand(1), after)  # the caller's generator was left alone


def test_warmup_linear_rises_and_falls():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = warmup_linear(optimizer, 10, warmup=0.4)
    rates = []
    for _ in range(10):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates[:4] == pytest.approx([0.5, 1, 1.5, 2])
    falls = torch.tensor(rates[3:]).diff()
    assert (falls < 0).all()
    assert falls.std() < 1e-6
    assert rates[-1] > 0
    assert optimizer.param_groups[0]["lr"] == 0


def test_predict_and_evaluate_use_evaluation_mode_and_restore_it(blobs):
    model = make().train()
    logits = predict(model, blobs.images, batch_size=50)
    assert model.training
    model.eval()
    assert torch.equal(logits, predict(model, blobs.images))
    with torch.no_grad():
        assert torch.allclose(logits, model(to_float(blobs.images)), atol=1e-6)
    score = evaluate(model, blobs)
    assert score.loss == pytest.approx(F.cross_entropy(logits, blobs.labels).item())
    assert score.correct == (logits.argmax(1) == blobs.labels).sum()
    assert score.accuracy == score.correct / 120
    model.train()
    model[1].eval()  # a layer that its owner froze
    with pytest.raises(RuntimeError):
        predict(model, torch.zeros(1, 5, 28, 28))
    assert model.training
    assert not model[1].training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs is 0"),
        ({"epochs": 1.5}, "epochs is 1.5"),
        ({"epochs": True}, "epochs is True"),
        ({"epochs": 1, "batch_size": 0}, "batch_size is 0"),
        ({"epochs": 1, "lr": 0}, "lr is 0"),
        ({"epochs": 1, "lr": float("nan")}, "lr is nan"),
        ({"epochs": 1, "device": "tpu"}, "device is 'tpu'"),
        ({"epochs": 1, "checkpoint_steps": 5}, "checkpoint_steps is 5"),
        ({"epochs": 1, "checkpoint": "x.pt", "checkpoint_steps": 0}, "checkpoint_steps is 0"),
    ],
)
def test_wrong_arguments_are_refused(blobs, arguments, message):
    model = make()
    with pytest.raises(ParameterError, match=message):
        quiet(model, blobs, **arguments)
    assert same(model, make())


def test_data_and_model_must_fit_together(blobs):
    with pytest.raises(ParameterError, match=r"len\(train\) is 0"):
        quiet(make(), blobs[:0], epochs=1)
    with pytest.raises(ParameterError, match="labels go from 0 to 2, but the model returns 2 logits"):
        quiet(nn.Sequential(nn.Flatten(), nn.Linear(784, 2)), blobs, epochs=1)
    with pytest.raises(ParameterError, match=r"returns \(2, 4, 6, 6\)"):
        quiet(make()[:3], blobs, epochs=1)
    with pytest.raises(RuntimeError) as error:
        quiet(nn.Linear(5, 3), blobs, epochs=1)
    assert "(2, 1, 28, 28)" in error.value.__notes__[0]


def test_a_softmax_before_the_loss_is_noticed(blobs):
    with pytest.warns(UserWarning, match="returns probabilities"):
        quiet(nn.Sequential(make(), nn.Softmax(dim=1)), blobs, epochs=1)


def test_a_diverging_run_stops(blobs, capsys):
    history = quiet(make(), blobs, epochs=50, lr=1e20, optimizer=torch.optim.SGD)
    assert history.diverged
    assert not history.interrupted
    assert len(history.step_losses) < 50 * 8
    assert "no longer finite" in capsys.readouterr().out
    assert "diverged" in repr(history)


def test_the_progress_bar_goes_to_stdout(blobs, capsys):
    quiet(make(), blobs, blobs, epochs=2, progress=True)
    shown = capsys.readouterr()
    assert "epoch 2: loss" in shown.out
    assert "val " in shown.out
    assert shown.err == ""


# --- interrupting and resuming -----------------------------------------------------------------------


class InterruptAt(nn.Identity):
    """An identity layer that interrupts the process during a given forward pass of training."""

    def __init__(self, step):
        super().__init__()
        self.left = step

    def forward(self, x):
        if self.training:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGINT)
        return x

    def __repr__(self):
        return "Identity()"  # so that a checkpoint takes the model for one without the interrupt


run = partial(quiet, epochs=3, schedule=warmup_linear, seed=4)


@pytest.mark.parametrize("step", [1, 8, 13, 24])
def test_an_interrupted_run_keeps_its_steps_and_resumes_to_the_same_weights(blobs, tmp_path, capsys, step):
    whole = nn.Sequential(*make(), nn.Identity())
    expected = run(whole, blobs, blobs)
    model = nn.Sequential(*make(), InterruptAt(step))
    handler = signal.getsignal(signal.SIGINT)
    history = run(model, blobs, blobs)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(history.step_losses) == step
    assert history.step_losses == expected.step_losses[:step]
    assert history.interrupted == (step < 24)
    if step < 24:
        assert f"Interrupted after {step} steps" in capsys.readouterr().out

    # The same with a checkpoint. The second model begins with other weights, as a new process might.
    path = tmp_path / "run.pt"
    run(nn.Sequential(*make(), InterruptAt(step)), blobs, blobs, checkpoint=path)
    resumed = nn.Sequential(*make(seed=123), nn.Identity())
    history = run(resumed, blobs, blobs, checkpoint=path)
    assert same(resumed, whole)
    assert history.step_losses == expected.step_losses
    assert not history.interrupted
    assert [e | {"seconds": 0} for e in history.epochs] == [e | {"seconds": 0} for e in expected.epochs]
    assert os.listdir(tmp_path) == ["run.pt"]


KILLED = """
import os, sys, torch
sys.path[:0] = {paths!r}
import test_train as t
from cnnlib.data import Dataset
state = torch.load({data!r}, weights_only=True)
class Kill(torch.nn.Identity):
    left = {step}
    def forward(self, x):
        if self.training:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), 9)
        return x
    __repr__ = lambda self: "Identity()"
data = Dataset(state["images"], state["labels"])
t.run(torch.nn.Sequential(*t.make(), Kill()), data, data, checkpoint={path!r}, checkpoint_steps=3)
"""


@pytest.mark.parametrize("step", [7, 14])
def test_a_run_killed_in_mid_epoch_resumes_to_the_same_weights(blobs, tmp_path, step):
    whole = nn.Sequential(*make(), nn.Identity())
    expected = run(whole, blobs, blobs)
    torch.save({"images": blobs.images, "labels": blobs.labels}, tmp_path / "data.pt")
    path = tmp_path / "run.pt"
    code = KILLED.format(
        paths=[os.path.dirname(__file__)], data=str(tmp_path / "data.pt"), step=step, path=str(path)
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    assert path.exists()
    resumed = nn.Sequential(*make(seed=5), nn.Identity())
    history = run(resumed, blobs, blobs, checkpoint=path, checkpoint_steps=3)
    assert same(resumed, whole)
    assert history.step_losses == expected.step_losses


def test_more_epochs_go_on_where_a_finished_run_ended(blobs, tmp_path):
    constant = partial(quiet, seed=4)
    whole, parts = make(), make()
    constant(whole, blobs, epochs=3)
    constant(parts, blobs, epochs=1, checkpoint=tmp_path / "run.pt")
    constant(parts, blobs, epochs=3, checkpoint=tmp_path / "run.pt")
    assert same(whole, parts)
    again = make(seed=9)
    history = constant(again, blobs, epochs=3, checkpoint=tmp_path / "run.pt")  # nothing is left to do
    assert same(again, whole)
    assert len(history.epochs) == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lr": 0.02}, "lr was 0.01, is now 0.02"),
        ({"seed": 5}, "seed was 4, is now 5"),
        ({"batch_size": 8}, "batch_size was 16, is now 8"),
        ({"optimizer": partial(torch.optim.SGD, momentum=0.9)}, r"is now SGD\(momentum=0.9\)"),
        ({"epochs": 4}, "over 3 epochs, is now warmup_linear over 4 epochs"),
        ({"schedule": None}, "is now none"),
        ({"loss": partial(F.cross_entropy, label_smoothing=0.1)}, "loss was cross_entropy"),
    ],
)
def test_the_checkpoint_of_another_run_is_refused(blobs, tmp_path, change, message):
    run(make(), blobs, checkpoint=tmp_path / "run.pt")
    model = make()
    with pytest.raises(CheckpointError, match=message):
        run(model, blobs, **{"checkpoint": tmp_path / "run.pt"} | change)
    assert same(model, make())


def test_another_model_or_other_data_are_refused(blobs, tmp_path):
    run(make(), blobs, checkpoint=tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="model was another one"):
        run(nn.Sequential(nn.Flatten(), nn.Linear(784, 3)), blobs, checkpoint=tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="train was"):
        run(make(), Dataset(blobs.images.flip(3), blobs.labels), checkpoint=tmp_path / "run.pt")
    with pytest.raises(CheckpointError, match="val was none"):
        run(make(), blobs, blobs, checkpoint=tmp_path / "run.pt")


def test_a_second_interrupt_ends_the_run_at_once(blobs):
    class Twice(nn.Identity):
        def forward(self, x):
            if self.training:
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.01)
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(1)
            return x

    with pytest.raises(KeyboardInterrupt):
        run(nn.Sequential(*make(), Twice()), blobs)


def test_fit_works_outside_the_main_thread(blobs):
    histories = []
    thread = threading.Thread(target=lambda: histories.append(run(make(), blobs)))
    thread.start()
    thread.join()
    assert isinstance(histories[0], History)
    assert len(histories[0].epochs) == 3
