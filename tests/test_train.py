import contextlib
import copy
import io
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.data import Dataset, to_float
from cnnlib.ground.errors import CheckpointError, DataError, ParameterError, Stopped
from cnnlib.ground.progress import progress_bar
from cnnlib.models import hooks, make_model
from cnnlib.models.batch_norm import BatchNorm2d
from cnnlib.train import evaluate, fit, predict, side_by_side, warmup_linear
from cnnlib.train.checkpoint import load_checkpoint, save_checkpoint
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
    *losses, last = history.step_losses[:7]
    assert history["train_loss"][0] == pytest.approx((16 * sum(losses) + 4 * last) / 100)
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
    with pytest.raises(ParameterError):
        predict(model, blobs.images[:, :, :5])
    assert [p.stride() for p in model.parameters()] == strides


def test_predict_takes_a_model_whose_layers_wait_for_their_first_images(blobs):
    model = nn.Sequential(nn.LazyConv2d(4, kernel_size=5, stride=4), nn.Flatten(), nn.LazyLinear(3))
    assert predict(model, blobs.images).shape == (120, 3)


def test_lazy_layers_learn_as_others_do(blobs):
    model = nn.Sequential(
        nn.LazyConv2d(4, kernel_size=5, stride=4), nn.LazyBatchNorm2d(), nn.Flatten(), nn.LazyLinear(3)
    )
    history = quiet(model, blobs, epochs=3)
    assert history.step_losses[-1] < history.step_losses[0]
    assert not any(parameter.is_inference() for parameter in model.parameters())


def test_what_predict_returns_can_take_part_in_training(blobs):
    logits = predict(make(), blobs.images)
    log_t = torch.zeros(1, requires_grad=True)
    F.cross_entropy(logits / log_t.exp(), blobs.labels).backward()
    assert log_t.grad.abs() > 0
    probe = nn.Linear(3, 3)
    F.cross_entropy(probe(logits), blobs.labels).backward()
    assert probe.weight.grad.abs().sum() > 0
    assert not logits.requires_grad


class Floats:
    """What evaluate takes for a data set, with floats: a Dataset holds none."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)


def test_pixels_that_were_not_divided_are_refused_and_standardised_ones_are_not(blobs):
    model, images = make(), blobs.images.float()
    for function in (predict, lambda m, x: evaluate(m, Floats(x, blobs.labels))):
        with pytest.raises(ParameterError, match=r"go up to 209; .* divide the pixels by 255"):
            function(model, images)
    with pytest.raises(ParameterError, match=r"images are torch.int64"):
        predict(model, images.long())
    standardised = (images - images.mean()) / images.std()
    with torch.no_grad():
        expected = model.eval()(standardised)
    torch.testing.assert_close(predict(model, standardised), expected)
    assert torch.equal(predict(model, images / 255), predict(model, blobs.images))
    head = nn.Sequential(nn.Flatten(), nn.Linear(8 * 49, 3))
    assert predict(head, torch.full((2, 8, 7, 7), 99.0)).shape == (2, 3)  # maps of an inner layer


class Meta(nn.Module):
    """A model on the meta device, which computes shapes alone and lies elsewhere, as a GPU does."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(784, 3, device="meta"))

    def forward(self, images):
        return images.flatten(1) @ self.weight


def test_evaluate_gives_the_loss_logits_and_labels_where_the_model_is(blobs, monkeypatch):
    seen = []

    def loss(logits, labels):
        seen.extend((logits.device.type, labels.device.type))
        return torch.tensor(0.5)

    # A meta tensor stands for one on a GPU, so it is let pass, and its numbers are made up.
    monkeypatch.setattr(hooks, "check_values", lambda model: None)
    monkeypatch.setattr(torch.Tensor, "__int__", lambda _: 0)
    assert evaluate(Meta(), blobs, loss).loss == 0.5
    assert seen == ["meta", "meta"]


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


class Blurred(nn.Module):
    """Scales maps by what Python's and NumPy's global generators draw, as home-made stochastic depth does."""

    def forward(self, x):
        return x * (random.choice((0.5, 1, 2)) * float(np.random.rand())) if self.training else x


def test_a_seed_decides_what_python_and_numpy_draw(blobs, tmp_path):
    def blurred():
        return nn.Sequential(*make(), Blurred())

    models = [blurred() for _ in range(3)]
    random.seed(11), np.random.seed(11)
    quiet(models[0], blobs, epochs=1, seed=2**40)
    after = random.random(), np.random.rand()
    random.seed(99), np.random.seed(99)
    quiet(models[1], blobs, epochs=1, seed=2**40)
    quiet(models[2], blobs, epochs=1, seed=2)
    assert same(models[0], models[1])
    assert not same(models[0], models[2])
    random.seed(11), np.random.seed(11)
    assert (random.random(), np.random.rand()) == after  # the caller's generators were left alone

    whole, parts, resumed = blurred(), blurred(), blurred()
    run(whole, blobs)
    stopped(nn.Sequential(parts, InterruptAt(13)), blobs, checkpoint=tmp_path / "run.pt")
    random.seed(5), np.random.seed(5)
    run(nn.Sequential(resumed, nn.Identity()), blobs, checkpoint=tmp_path / "run.pt")
    assert same(resumed, whole)


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
    with pytest.raises(ParameterError):
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
        ({"epochs": np.bool_(True)}, "epochs is np.True_"),
        ({"epochs": torch.tensor(True)}, r"epochs is tensor\(True\)"),
        ({"epochs": 1, "lr": float("inf")}, "lr is inf"),
        ({"epochs": 1, "lr": "fast"}, "lr is 'fast'"),
        ({"epochs": 1, "lr": "0.1"}, "lr is '0.1'; it must be a finite number above 0"),
        ({"epochs": 1, "lr": True}, "lr is True"),
        ({"epochs": 1, "lr": torch.ones(2)}, "lr is tensor"),
        ({"epochs": 1, "checkpoint": 3}, "checkpoint is an int; it must be a path"),
        ({"epochs": 1, "seed": -1}, "seed is -1"),
        ({"epochs": 1, "seed": 1.5}, "seed is 1.5"),
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
    with pytest.raises(ParameterError, match=r"len\(val\) is 0"):
        quiet(make(), blobs, blobs[:0], epochs=1)
    with pytest.raises(ParameterError, match=r"len\(data\) is 0"):
        evaluate(make(), blobs[:0])
    with pytest.raises(ParameterError, match="val's labels go from 7 to 7, but the model returns 3 logits"):
        quiet(make(), blobs, Dataset(blobs.images, torch.full((120,), 7)), epochs=1)
    with pytest.raises(
        ParameterError, match=r"\(2, 1, 28, 9\): in layer '5', a Linear, mat1 and mat2 shapes"
    ):
        quiet(make(), blobs, Dataset(blobs.images[..., :9], blobs.labels), epochs=1)
    for context in (torch.no_grad(), torch.inference_mode()):
        with context, pytest.raises(ParameterError, match="computes no gradients"):
            quiet(make(), blobs, epochs=1)
    with pytest.raises(ParameterError, match="labels go from 0 to 2, but the model returns 2 logits"):
        quiet(nn.Sequential(nn.Flatten(), nn.Linear(784, 2)), blobs, epochs=1)
    with pytest.raises(ParameterError, match=r"returns \(2, 4, 6, 6\)"):
        quiet(make()[:3], blobs, epochs=1)
    with pytest.raises(ParameterError, match=r"cannot take images of shape \(2, 1, 28, 28\): mat1"):
        quiet(nn.Linear(5, 3), blobs, epochs=1)


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


class Plain:
    """What some programs put in stdout's place: it writes, and knows nothing else of a file."""

    text = ""

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.mark.parametrize("stdout", [None, Plain()])
def test_training_goes_on_without_a_usual_stdout(blobs, monkeypatch, stdout):
    monkeypatch.setattr(sys, "stdout", stdout)  # None: pythonw, and programs without a window
    fit(make(), blobs, epochs=1, device="cpu")
    side_by_side(abs, range(2), workers=1)
    if stdout:
        assert re.fullmatch(r"epoch 1: loss .*\n2 runs in .*\n", stdout.text)


def test_a_signal_handler_of_another_program_stays(blobs, monkeypatch):
    """Inside a program such as R, getsignal knows no handler, and signal cannot put it back."""
    monkeypatch.setattr(signal, "getsignal", lambda number: None)
    monkeypatch.setattr(signal, "signal", lambda *_: pytest.fail("a handler was changed"))
    quiet(make(), blobs, epochs=1)


def test_the_progress_bar_goes_to_stdout(blobs, capsys):
    quiet(make(), blobs, blobs, epochs=2, progress=True)
    shown = capsys.readouterr()
    assert "epoch 2: loss" in shown.out
    assert "val " in shown.out
    assert shown.err == ""


class Screen(io.TextIOBase):
    """A terminal: a stream whose lines can be written over."""

    def __init__(self):
        self.line, self.seen = "", []

    def isatty(self):
        return True

    def write(self, text):
        for part in re.split("(\r)", text):
            self.line = "" if part == "\r" else self.line + part
            self.seen += [self.line.strip()] if self.line.strip() else []


def test_a_line_in_a_terminal_says_how_long_it_may_take_and_goes_away(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    with progress_bar(4, "step", done=1) as bar:
        for _ in range(3):
            time.sleep(0.6)
            bar.update()
    assert any(re.fullmatch(r"75 % \|.+\| 3 of 4 steps, 00:01 so far, 00:00 left", s) for s in screen.seen)
    assert screen.line.strip() == ""


def test_a_line_that_was_asked_for_goes_away_however_soon_all_is_done(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    with progress_bar(2, "run") as bar:
        bar.refresh()
        bar.update(2)
    assert any("0 of 2 runs" in line for line in screen.seen)
    assert screen.line.strip() == ""


def test_a_line_is_no_wider_than_a_narrow_terminal(monkeypatch):
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    for columns, longest in ((40, 39), (200, 120)):
        monkeypatch.setenv("COLUMNS", str(columns))
        with progress_bar(4_700, "step", title="2 at a time: ") as bar:
            bar.set_postfix_str("epoch 12: loss 0.0412, val 98.12 %")
            bar.refresh()
        assert max(map(len, screen.seen)) <= longest
    assert any("0 of 4700 steps, 00:00 so far, ? left, epoch 12: loss 0.0412, val" in s for s in screen.seen)


def test_a_log_has_a_new_line_now_and_then(capsys, monkeypatch):
    monkeypatch.setattr("cnnlib.ground.progress.LOG_SECONDS", 0.3)
    with progress_bar(6, "run", title="2 at a time: ") as bar:
        for _ in range(6):
            time.sleep(0.2)
            bar.update()
            bar.refresh()
    lines = capsys.readouterr().out.splitlines()
    assert 2 <= len(lines) <= 4
    assert all(re.search(r"2 at a time: .* \d of 6 runs, 00:0\d so far, 00:0\d left", line) for line in lines)


def test_nothing_is_shown_where_the_output_is_caught_or_a_training_is_short(capsys):
    with contextlib.redirect_stdout(io.StringIO()) as caught, progress_bar(2, "run") as bar:
        bar.update()
    assert (caught.getvalue(), bar.finished) == ("", 1)
    with progress_bar(2, "run") as bar:
        bar.update()
    assert capsys.readouterr().out == ""


def test_numpys_numbers_are_numbers(blobs):
    ours, plain = make(), make()
    options = {"epochs": 2, "batch_size": 16, "seed": 3}
    quiet(plain, blobs, lr=0.01, **options)
    quiet(ours, blobs, lr=np.float64(0.01), **{name: np.int64(value) for name, value in options.items()})
    assert same(ours, plain)


def test_numpys_seeds_seed_runs_side_by_side():
    drawn = [
        side_by_side(lambda _: torch.rand(1).item(), [seed], workers=1, device="cpu", progress=False)
        for seed in (5, np.int64(5), np.int64(6))
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def flat():
    """A model whose batch norm has one value a channel and image."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))


def test_a_last_batch_of_one_image_is_refused_where_batch_norm_needs_two(blobs):
    for number, size in ((113, 16), (1, 16), (5, 1)):
        model = flat()
        with pytest.raises(ParameterError, match=f"^{number} images in batches of {size} leave one image"):
            quiet(model, blobs[:number], epochs=1, batch_size=size)
        assert same(model, flat())
    assert len(quiet(flat(), blobs[:112], epochs=1).step_losses) == 7
    assert len(quiet(flat(), blobs[:114], epochs=1).step_losses) == 8
    ours, plain = make(), make()  # its batch norm has 36 values a channel and image
    plain.to(memory_format=torch.channels_last)
    quiet(ours, blobs[:17], epochs=1, optimizer=torch.optim.SGD, seed=3)
    optimizer, order = torch.optim.SGD(plain.parameters(), lr=0.01), torch.Generator().manual_seed(3)
    torch.manual_seed(3)
    for indices in torch.randperm(17, generator=order).split(16):
        optimizer.zero_grad()
        F.cross_entropy(plain(blobs.images[indices] / 255), blobs.labels[indices]).backward()
        optimizer.step()
    assert same(ours, plain)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_run_repeats_itself_on_a_gpu():
    images = torch.randint(256, (1_000, 1, 28, 28), dtype=torch.uint8)
    noise = Dataset(images, torch.arange(1_000) % 10, 10)
    runs = []
    for _ in range(3):  # simple_cnn's differed by the second when cuDNN chose freely
        torch.manual_seed(0)
        model = make_model("simple_cnn")
        quiet(model, noise, epochs=3, batch_size=32, seed=0, device="cuda")
        runs.append(model)
    assert same(runs[0], runs[1])
    assert same(runs[0], runs[2])


def test_the_generators_of_other_devices_are_left_alone(blobs, monkeypatch):
    model, seeded = make(), []
    for module in (torch.cuda, torch.xpu):
        monkeypatch.setattr(module, "manual_seed_all", seeded.append)
    quiet(model, blobs, epochs=1)
    assert seeded == []
    torch.manual_seed(0)  # which tells what the test would have seen
    assert seeded


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


def stopped(*arguments, **options):
    """Return the history and the message of a run that is interrupted."""
    with pytest.raises(Stopped) as caught:
        run(*arguments, **options)
    assert isinstance(caught.value, KeyboardInterrupt)  # `except Exception` in a lesson does not catch it
    return caught.value.history, str(caught.value)


def test_going_on_after_an_interrupt_must_be_asked_for(blobs):
    model, weights = nn.Sequential(*make(), InterruptAt(5)), nn.Sequential(*make(), InterruptAt(5))
    history = run(model, blobs, go_on=True)
    assert history.interrupted
    assert len(history.step_losses) == 5
    expected, _ = stopped(weights, blobs)
    assert history.step_losses == expected.step_losses
    assert same(model, weights)


def test_an_interrupt_while_the_optimizer_is_made_waits_for_it(blobs):
    made = []

    def slow(parameters, lr):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        made.append(torch.optim.SGD(parameters, lr=lr))
        return made[0]

    model = make()
    assert stopped(model, blobs, optimizer=slow)[1] == "Stopped before the first step."
    assert made
    assert same(model, make())


def test_one_interrupt_ends_several_trainings(blobs):
    begun = []
    with pytest.raises(Stopped, match="when 1 of 3 runs were finished"):
        side_by_side(
            lambda k: begun.append(k) or run(nn.Sequential(*make(), InterruptAt(99 if k == 0 else 3)), blobs),
            range(3),
            device="meta",  # in turn, in this process
            progress=False,
        )
    assert begun == [0, 1]


@pytest.mark.parametrize("step", [1, 8, 13, 24])
def test_an_interrupted_run_keeps_its_steps_and_resumes_to_the_same_weights(blobs, tmp_path, capsys, step):
    whole = nn.Sequential(*make(), nn.Identity())
    expected = run(whole, blobs, blobs)
    model = nn.Sequential(*make(), InterruptAt(step))
    handler = signal.getsignal(signal.SIGINT)
    history, message = stopped(model, blobs, blobs)
    assert signal.getsignal(signal.SIGINT) is handler
    assert len(history.step_losses) == step
    assert history.step_losses == expected.step_losses[:step]
    assert history.interrupted == (step < 24)
    if step < 24:
        assert message.startswith(
            f"Stopped after {step} of 24 steps; the model keeps what it learned in them. "
        )
        assert message.endswith("run once more, makes all its steps anew.")
    else:
        assert message == "Stopped, when all 24 steps of this training were made; the model keeps them."
    assert capsys.readouterr().out == ""

    # The same with a checkpoint. The second model begins with other weights, as a new process might.
    path = tmp_path / "run.pt"
    _, message = stopped(nn.Sequential(*make(), InterruptAt(step)), blobs, blobs, checkpoint=path)
    assert step == 24 or message.endswith("goes on from here.")
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


def test_data_that_lie_otherwise_in_memory_are_the_same_run(blobs, tmp_path):
    grey = blobs.images[::2]
    pictures = [
        grey.clone(),
        grey.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        grey.repeat(1, 2, 1, 1)[:, :1],
        grey.contiguous(memory_format=torch.channels_last),
    ]
    model = make()
    run(model, blobs[::2], blobs[::2], checkpoint=tmp_path / "run.pt")
    for images in pictures:
        again = make(seed=7)
        data = Dataset(images, blobs.labels[::2])
        run(again, data, data, checkpoint=tmp_path / "run.pt")
        assert same(again, model)


def test_a_run_with_numpys_numbers_resumes_to_the_same_weights(blobs, tmp_path):
    options = {
        "lr": np.logspace(-3, -1, 3)[1],
        "optimizer": partial(torch.optim.Adam, betas=(np.float64(0.7), np.float64(0.9))),
        "schedule": lambda built, steps: torch.optim.lr_scheduler.MultiStepLR(
            built, np.arange(2, steps, 5), gamma=np.float64(0.5)
        ),
    }
    whole, parts = make(), nn.Sequential(*make(), InterruptAt(13))
    run(whole, blobs, checkpoint=tmp_path / "whole.pt", **options)
    stopped(parts, blobs, checkpoint=tmp_path / "run.pt", **options)
    resumed = nn.Sequential(*make(seed=5), nn.Identity())
    history = run(resumed, blobs, checkpoint=tmp_path / "run.pt", **options)
    assert len(history.step_losses) == 24
    assert same(resumed, whole)


def test_what_no_checkpoint_holds_is_refused_before_training(blobs, tmp_path):
    class Odd(torch.optim.SGD):
        def __init__(self, parameters, lr):
            super().__init__(parameters, lr=lr)
            self.param_groups[0]["odd"] = object()

    model = make()
    with pytest.raises(ParameterError, match=r"the optimizer's odd is <object .* cannot hold"):
        run(model, blobs, optimizer=Odd, checkpoint=tmp_path / "run.pt")
    drawing = nn.Sequential(*make(), nn.Identity())
    for generator in (torch.Generator(), np.random.default_rng(0), random.Random(0)):
        drawing[-1].source = generator
        with pytest.raises(ParameterError, match=r"layer '6', an Identity, draws from .* own, source,"):
            run(drawing, blobs, checkpoint=tmp_path / "run.pt")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        run(model, blobs, checkpoint=tmp_path / "file" / "run.pt")
    with pytest.raises(CheckpointError, match=r"cannot be read as a checkpoint .*use another path"):
        run(model, blobs, checkpoint=tmp_path)
    assert same(model, make())


def test_a_checkpoint_needs_no_suffix(blobs, tmp_path):
    whole, again = make(), make(seed=3)
    run(whole, blobs, checkpoint=tmp_path / "run1")
    run(again, blobs, checkpoint=tmp_path / "run1")
    assert same(again, whole)


def test_a_checkpoint_that_holds_no_run_is_refused(blobs, tmp_path):
    path = tmp_path / "run.pt"
    save_checkpoint(path, {"weights": torch.rand(3)})
    with pytest.raises(CheckpointError, match="not written by fit"):
        run(make(), blobs, checkpoint=path)
    path.unlink()
    run(make(), blobs, checkpoint=path)
    state = load_checkpoint(path)
    for part in ("model", "random", "lr", "history"):
        save_checkpoint(path, {key: value for key, value in state.items() if key != part})
        with pytest.raises(CheckpointError, match="does not hold the state of this run"):
            run(make(), blobs, checkpoint=path)


class Scaled(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, logits, labels):
        return self.factor * F.cross_entropy(logits, labels)


@pytest.mark.parametrize(
    ("loss", "other"),
    [
        (nn.CrossEntropyLoss(), nn.CrossEntropyLoss(label_smoothing=0.9)),
        (lambda z, y: F.cross_entropy(z, y), lambda z, y: 2 * F.cross_entropy(z, y)),
        (Scaled(1.0), Scaled(2.0)),
    ],
)
def test_a_loss_is_told_from_another_and_known_again(blobs, tmp_path, loss, other):
    path = tmp_path / "run.pt"
    run(make(), blobs, loss=loss, checkpoint=path)
    run(make(), blobs, loss=copy.deepcopy(loss), checkpoint=path)
    with pytest.raises(CheckpointError, match="loss was"):
        run(make(), blobs, loss=other, checkpoint=path)


def test_the_history_knows_the_rate_after_a_kill_during_validation(blobs, tmp_path):
    class Killed(Exception):  # noqa: N818
        pass

    class Kill(InterruptAt):
        def forward(self, x):
            if not self.training and len(x) > 2:  # validation, not the first look at two images
                raise Killed
            return x

    whole = nn.Sequential(*make(), nn.Identity())
    expected = run(whole, blobs, blobs)
    options = {"checkpoint": tmp_path / "run.pt", "checkpoint_steps": 8}
    with pytest.raises(Killed):
        run(nn.Sequential(*make(), Kill(0)), blobs, blobs, **options)
    resumed = nn.Sequential(*make(seed=5), nn.Identity())
    history = run(resumed, blobs, blobs, **options)
    assert history["lr"] == expected["lr"]
    assert same(resumed, whole)


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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": "adam"}, "optimizer is 'adam'; it must be a function"),
        ({"loss": "cross_entropy"}, "loss is 'cross_entropy'"),
        (
            {"optimizer": torch.optim.SGD([torch.zeros(1)])},
            "optimizer is SGD \\( Parameter Group 0 .*; it must be a function, such as torch.optim.Adam",
        ),
        ({"schedule": "linear"}, "schedule is 'linear'"),
        ({"model": None}, "model is None"),
        ({"model": nn.Linear}, "model is .*built"),
        ({"model": nn.Flatten()}, "no parameter that can be trained"),
        ({"model": make().requires_grad_(False)}, "no parameter that can be trained"),
        ({"train": torch.zeros(4, 1, 28, 28)}, "train is a Tensor; it must be a Dataset"),
        ({"val": (1, 2)}, "val is a tuple; it must be a Dataset"),
    ],
)
def test_what_fit_cannot_use_is_named_before_any_training(blobs, options, message):
    with pytest.raises(ParameterError, match=message):
        quiet(**({"model": make(), "train": blobs, "epochs": 1} | options))


class Elsewhere(nn.Module):
    """A model that keeps a tensor which no model.to(device) moves."""

    def __init__(self):
        super().__init__()
        self.inner, self.factor = make(), torch.ones(3, device="meta")

    def forward(self, images):
        return self.inner(images) * self.factor


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4, 3)), "have 1 channels.* takes 3"),
        (nn.Sequential(make()[:5].double(), make()[5]), "in layer '1', a Linear, .* are torch.float32 and "),
        (
            Elsewhere(),
            r"Keep tensors as parameters and buffers, and bring all to one device: model.to\(device\)",
        ),
    ],
)
def test_a_model_that_takes_other_images_is_told_why(blobs, model, message):
    for call in (lambda: quiet(model, blobs, epochs=1), lambda: predict(model, blobs.images)):
        with pytest.raises(ParameterError, match=message):
            call()


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-7), ("float16", 1e-2), ("bfloat16", 5e-2)])
def test_images_are_brought_to_the_models_dtype(blobs, dtype, close):
    dtype, reference = getattr(torch, dtype), make().eval()
    model = copy.deepcopy(reference).to(dtype)
    with torch.no_grad():
        expected = reference.double()(blobs.images.double() / 255).float()
    for images in (blobs.images, blobs.images.float() / 255, blobs.images.half() / 255):
        logits = predict(model, images)
        assert logits.dtype in (torch.float32, torch.float64)
        torch.testing.assert_close(logits.float(), expected, atol=max(close, 1e-3), rtol=close)
    assert evaluate(model, blobs).loss == pytest.approx(
        F.cross_entropy(expected, blobs.labels).item(), abs=close
    )
    single = reference.float()
    assert torch.equal(
        predict(single, blobs.images.double() / 255), predict(single, blobs.images.float() / 255)
    )


def test_a_double_model_learns_and_a_coarse_one_is_refused(blobs):
    model, plain = make().double(), make().double()
    quiet(model, blobs, epochs=1, batch_size=120, optimizer=torch.optim.SGD, loss=F.cross_entropy)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        F.cross_entropy(plain(blobs.images.double() / 255), blobs.labels).backward()
    torch.optim.SGD(plain.parameters(), lr=0.01).step()
    assert model[0].weight.dtype == torch.float64
    torch.testing.assert_close(model[1].running_mean, plain[1].running_mean)
    for dtype in (torch.float16, torch.bfloat16):
        with pytest.raises(ParameterError, match=rf"has {dtype} parameters, too coarse .* model.float\(\)"):
            quiet(make().to(dtype), blobs, epochs=1)


COLOR = nn.Sequential(nn.Conv2d(3, 4, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((28, 28), r"shape \(28, 28\); they must be .*: images\[None, None\] makes a batch"),
        ((3, 28, 28), r"shape \(3, 28, 28\); they must be .*: images.unsqueeze\(0\) makes a batch"),
        ((28, 28, 3), r"shape \(28, 28, 3\); .*: images.permute\(2, 0, 1\).unsqueeze\(0\)"),
        ((9, 28, 28), r"shape \(9, 28, 28\); .*: images.unsqueeze\(1\) gives grey images"),
        ((2, 1, 28, 28), r"1 channels, but the model takes 3; .*images.expand\(-1, 3, -1, -1\)"),
    ],
)
def test_images_of_another_shape_are_told_how_to_become_a_batch(shape, dtype, message):
    with pytest.raises(ParameterError, match=message):
        predict(COLOR, torch.zeros(shape, dtype=dtype))


def test_images_whose_channels_lie_last_are_refused_where_no_layer_would_notice():
    last = torch.zeros(2, 28, 28, 3, dtype=torch.uint8)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(28 * 28 * 3, 3))
    way_out = r"\(2, 28, 28, 3\), their channels last; .*: images.permute\(0, 3, 1, 2\)"
    for call in (
        lambda: predict(flat, last),
        lambda: predict(flat, last / 255),
        lambda: evaluate(flat, Floats(last / 255, torch.zeros(2).long())),
        lambda: Dataset(last, torch.zeros(2).long()),
    ):
        with pytest.raises(DataError, match=way_out):
            call()
    assert predict(flat, last.permute(0, 3, 1, 2)).shape == (2, 3)
    with pytest.raises(ParameterError, match=r"an ndarray; .* torch.as_tensor .*permute\(0, 3, 1, 2\)"):
        predict(flat, last.numpy())


def test_what_is_no_model_no_data_and_no_logits_is_named(blobs):
    for model in (nn.Linear, lambda images: images, None):
        with pytest.raises(ParameterError, match=r"model is .*; it must be a torch.nn.Module, built"):
            predict(model, blobs.images)
    with pytest.raises(ParameterError, match=r"images are a Dataset; .*: take data.images"):
        predict(make(), blobs)
    for data in (blobs.images, tuple(blobs), [1]):
        with pytest.raises(ParameterError, match=r"data is an? .*; it must be a Dataset"):
            evaluate(make(), data)
    with pytest.raises(ParameterError, match="returns a tuple for images"):
        predict(nn.LSTM(28, 3), blobs.images[:, 0])
    with pytest.raises(ParameterError, match=r"returns \(4, 120\) for images"):
        predict(nn.Sequential(make(), Transposed()), blobs.images)
    with pytest.raises(ParameterError, match=r"returns \(120, 3, 26, 26\); it must return \(N, K\) logits"):
        evaluate(nn.Conv2d(1, 3, 3), blobs)


class Transposed(nn.Module):
    def forward(self, logits):
        return F.pad(logits, (0, 1)).T


SCHEDULERS = torch.optim.lr_scheduler


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": torch.optim.LBFGS}, "optimizer is LBFGS, whose step needs closure; .*optim.Adam"),
        (
            {"schedule": lambda optimizer, steps: SCHEDULERS.ReduceLROnPlateau(optimizer)},
            "schedule is ReduceLROnPlateau, whose step needs metrics; .*such as cnnlib.train.warmup_linear",
        ),
        ({"schedule": SCHEDULERS.ReduceLROnPlateau}, "schedule cannot be built: .* must be a function of"),
        ({"schedule": SCHEDULERS.OneCycleLR}, "schedule cannot be built: You must define either total_steps"),
        ({"schedule": lambda optimizer: None}, r"schedule cannot be built: .* of \(optimizer, total_steps\)"),
        ({"schedule": lambda optimizer, steps: None}, "schedule returns a NoneType"),
        ({"schedule": lambda optimizer, steps: 0.1}, "schedule returns a float"),
        (
            {"schedule": lambda _, steps: warmup_linear(torch.optim.SGD(make().parameters(), lr=1), steps)},
            "the schedule changes another optimizer's rate",
        ),
        (
            {
                "schedule": lambda optimizer, steps: SCHEDULERS.OneCycleLR(
                    optimizer, 0.1, total_steps=steps - 1
                )
            },
            "the schedule ends after 7 steps, the run makes 8",
        ),
        ({"optimizer": lambda parameters: None}, r"optimizer cannot be built: .*\(parameters, lr\)"),
        ({"optimizer": partial(torch.optim.SGD, momentum=-1)}, "cannot be built: Invalid momentum value: -1"),
        ({"optimizer": lambda parameters, lr: None}, "optimizer returns a NoneType"),
        (
            {"optimizer": lambda parameters, lr: torch.optim.SGD(make().parameters(), lr=lr)},
            "the optimizer holds none of the model's parameters",
        ),
        ({"loss": nn.CrossEntropyLoss}, r"loss cannot take logits \(16, 3\) and labels \(16,\): .*Loss\(\)"),
        ({"loss": nn.BCEWithLogitsLoss()}, r"loss cannot take logits \(16, 3\)"),
        ({"loss": nn.CrossEntropyLoss(reduction="none")}, r"loss returns a Tensor \(16,\); .*reduction="),
        ({"loss": lambda logits, labels: 1.0}, "loss returns a float; it must return the mean loss"),
        (
            {"loss": lambda logits, labels: (logits.argmax(1) == labels).float().mean()},
            "loss does not depend on the logits in a way that has a gradient; argmax",
        ),
    ],
)
def test_what_fit_cannot_step_with_is_named_before_the_first_step(blobs, options, message):
    model = make()
    with pytest.raises(ParameterError, match=message):
        quiet(model, blobs, epochs=1, **options)
    assert all(map(torch.equal, model.parameters(), make().parameters()))


def test_schedules_that_fit_can_step_still_work(blobs):
    for schedule in (SCHEDULERS.CosineAnnealingLR, one_cycle):
        assert len(quiet(make(), blobs, epochs=1, schedule=schedule).step_losses) == 8


def one_cycle(optimizer, total_steps):
    return SCHEDULERS.OneCycleLR(optimizer, max_lr=0.1, total_steps=total_steps)


def test_evaluate_names_a_label_without_a_logit(blobs):
    for shift in (-1, 1):
        with pytest.raises(ParameterError, match=r"labels go from .* returns 3 logits"):
            evaluate(make(), Dataset(blobs.images, blobs.labels + shift))


def test_bytes_less_128_are_off_the_scale_too():
    with pytest.raises(ParameterError, match="go up to -128"):
        predict(make(), torch.full((2, 1, 28, 28), -128.0))


class Auxiliary(nn.Module):
    """As torchvision's GoogLeNet and Inception: several outputs, but in training only (vision#302)."""

    def __init__(self):
        super().__init__()
        self.network = make()

    def forward(self, x):
        logits = self.network(x)
        return (logits, logits) if self.training else logits


def test_several_outputs_in_training_are_named(blobs, tmp_path):
    path = tmp_path / "run.pt"
    with pytest.raises(ParameterError, match=r"returns a tuple for images .*aux_logits=False"):
        fit(Auxiliary(), blobs, epochs=1, device="cpu", progress=False, checkpoint=path)
    assert not path.exists()


def test_an_optimizer_that_cannot_step_leaves_nothing_in_the_way_of_another(blobs, tmp_path):
    path = tmp_path / "run.pt"
    settings = {"epochs": 1, "device": "cpu", "progress": False, "checkpoint": path}
    with pytest.raises(
        ParameterError, match=r"a step of training with SparseAdam: .*dense gradients.*take another optimizer"
    ):
        fit(make(), blobs, optimizer=torch.optim.SparseAdam, **settings)
    assert list(tmp_path.iterdir()) == []
    assert len(fit(make(), blobs, optimizer=torch.optim.Adam, **settings).epochs) == 1
    with pytest.raises(ParameterError):  # but a checkpoint that was there stays
        fit(Auxiliary(), blobs, **settings | {"epochs": 0})
    assert path.exists()


def test_an_optimizers_state_is_not_given_to_other_parameters(blobs, tmp_path):
    """pytorch#1489: it is saved by the parameters' order, which another run may not have."""
    path = tmp_path / "run.pt"
    settings = {"epochs": 1, "device": "cpu", "progress": False, "checkpoint": path}
    backwards = [False]

    def optimizer(parameters, lr):
        parameters = list(parameters)
        return torch.optim.Adam(parameters[::-1] if backwards[0] else parameters, lr=lr)

    fit(make(), blobs, optimizer=optimizer, **settings)
    backwards[0] = True
    with pytest.raises(CheckpointError, match="order of parameters was"):
        fit(make(), blobs, optimizer=optimizer, **settings)


def test_a_model_without_values_is_not_trained_or_asked(blobs):
    with torch.device("meta"):
        empty = make()
    for use in (
        lambda: fit(empty, blobs, epochs=1, device="cpu", progress=False),
        lambda: predict(empty, blobs.images),
        lambda: evaluate(empty, blobs),
    ):
        with pytest.raises(ParameterError, match=r'is on the device "meta".*to_empty'):
            use()
    model = make()
    with pytest.raises(ParameterError, match='device is "meta", where nothing is computed'):
        fit(model, blobs, epochs=1, device="meta", progress=False)
    assert same(model, make())


class ViewNet(nn.Module):
    """As many people write it: `view` takes maps only as they lie in reading order."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear = nn.Conv2d(1, 6, 5), nn.Linear(6 * 12 * 12, 3)

    def forward(self, x):
        x = F.max_pool2d(self.conv(x), 2)
        return self.linear(x.view(x.size(0), -1))


def test_a_model_that_needs_maps_in_reading_order_is_trained_and_asked(blobs):
    ours, plain = ViewNet(), ViewNet()
    torch.testing.assert_close(predict(ours, blobs.images), plain(to_float(blobs.images)).detach())
    quiet(ours, blobs, epochs=1, batch_size=len(blobs), optimizer=torch.optim.SGD)
    order = torch.randperm(len(blobs), generator=torch.Generator().manual_seed(0))
    F.cross_entropy(plain(to_float(blobs.images[order])), blobs.labels[order]).backward()
    torch.optim.SGD(plain.parameters(), lr=0.01).step()
    assert same(ours, plain)
    with pytest.raises(ParameterError, match=r"cannot take images of shape \(4, 1, 20, 20\).*takes one size"):
        predict(ours, blobs.images[:4, :, :20, :20])


def test_an_optimizer_may_go_over_the_parameters_twice(blobs):
    def optimizer(parameters, lr):
        decayed = [p for p in parameters if p.ndim > 1]
        others = [p for p in parameters if p.ndim == 1]
        return torch.optim.SGD([{"params": decayed, "weight_decay": 0.1}, {"params": others}], lr=lr)

    model, before = make(), make()
    quiet(model, blobs, epochs=1, optimizer=optimizer)
    fixed = [n for n, p in model.named_parameters() if torch.equal(p, before.get_parameter(n))]
    assert set(fixed) <= {"0.bias"}  # the mean that batch norm subtracts takes it away


def test_frozen_batch_normalisation_keeps_its_statistics(blobs):
    torch.manual_seed(0)
    frozen = nn.Sequential(nn.Conv2d(1, 4, 5), nn.BatchNorm2d(4), BatchNorm2d(4)).requires_grad_(False)
    free = nn.BatchNorm2d(4)
    before = copy.deepcopy(frozen)
    model = nn.Sequential(frozen, free, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
    quiet(model, blobs, epochs=1)
    assert same(frozen, before)
    assert free.num_batches_tracked > 0


def test_settings_are_a_list():
    for settings in (5, None, "abc"):
        with pytest.raises(ParameterError, match=r"settings are .*; they must be a list of settings"):
            side_by_side(abs, settings)


def test_a_layer_that_works_in_place_where_it_must_not_is_explained(blobs):
    """jacobgil/pytorch-grad-cam#215 and others: "modified by an inplace operation"."""
    model = nn.Sequential(make(), nn.Sigmoid(), nn.ReLU(inplace=True))
    with pytest.raises(ParameterError, match=r"modified by an inplace operation.*works in place spoils"):
        fit(model, blobs, epochs=1, device="cpu", progress=False)


@pytest.mark.parametrize(("steps", "warmup"), [(0, 0.2), (1.5, 0.2), (10, 1), (10, -1), (10, "a")])
def test_a_warm_up_is_a_share_of_some_steps(steps, warmup):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
    with pytest.raises(ParameterError, match=r"(total_steps|warmup) is"):
        warmup_linear(optimizer, steps, warmup)


def test_what_cannot_be_copied_is_named():
    lock = threading.Lock()
    with pytest.raises(ParameterError, match=r"no copy \(.*lock.*open files, locks"):
        side_by_side(lambda setting: lock, [1], device="cpu", workers=1, progress=False)


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(reduction="sum"), partial(F.cross_entropy, reduction="sum")]
)
def test_a_sum_is_no_mean_loss(blobs, loss):
    for use in (
        lambda: fit(make(), blobs, epochs=1, device="cpu", progress=False, loss=loss),
        lambda: evaluate(make(), blobs, loss),
    ):
        with pytest.raises(ParameterError, match=r'reduction "sum"; it must be "mean"'):
            use()


@pytest.mark.parametrize("loss", [F.nll_loss, nn.NLLLoss()])
def test_nll_loss_takes_logarithms_of_probabilities(blobs, loss):
    """On logits it has no lower bound: training "succeeds" with a loss below 0."""
    with pytest.raises(ParameterError, match=r"nll_loss, which takes the logarithms.*cross_entropy"):
        evaluate(make(), blobs, loss)
    model = nn.Sequential(make(), nn.LogSoftmax(dim=1))
    assert evaluate(model, blobs, loss).loss == pytest.approx(evaluate(model, blobs).loss, abs=1e-6)
