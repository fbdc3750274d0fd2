"""Time to an accuracy: the standard MNIST example beside the course's recipe, interleaved, in one process.

    python benchmarks/training_speed.py [--tasks mnist-99 mnist-99.5 fashion-93] [--seeds 5] [--device auto]
    python benchmarks/training_speed.py --choose [--seeds 3]    # how the lengths below were chosen
    python benchmarks/training_speed.py --tasks mnist-99 --reference-steps 60    # a minute instead of many
    python benchmarks/training_speed.py --steps    # a step's time for more and more images, of both networks

The reference is the network, optimizer and data path of the well-known MNIST example program, written anew
from its published settings: convolutions of 32 and 64 kernels, dropout 0.25 and 0.5, Adadelta with rate 1
that falls by 0.7 an epoch, batches of 64 from a DataLoader over torchvision's MNIST.

A task's length is the shortest of its choices with which the mean accuracy on 10,000 validation images
reaches the target, after training on the other 50,000; `--choose` measures that. The benchmark proper trains
on all 60,000 for that length and opens the test set once a run. Each seed runs the reference and the recipe
in turn, so that whatever else the machine does meets both alike. Seconds are those of training, from a built
model and an opened data set to the last step; asking the trained model for the test images is timed apart.

MNIST's test images are a little easier than images held out from its training images, and Fashion-MNIST's
are harder: compare what the two ways of calling this program print, for the reference too. So the recipe's
targets for validation are 98.9 % for 99 %, 99.4 % for 99.5 %, and 93.6 % for 93 %. The reference's length is
the shortest that reaches 99.0 % there; on the test images the two come out level.

Measured with torch 2.13 on two cores of an Intel Xeon with AMX, float32, 5 seeds: reference 99.04 ± 0.02 % in
189 s, recipe 99.06 ± 0.05 % in 0.88 s, run by run 213 times faster; mnist-99.5: 99.54 ± 0.03 % in 6.2 s. That
was before Adam's step was fused.

On two cores of an AMD EPYC with AVX-512, without AMX, 2 seeds: reference 99.09 ± 0.03 % in 306 s, recipe
99.11 ± 0.01 % in 1.23 s, run by run 244 and 254 times faster. From parts, timed in CPU seconds as lesson 12
does, one such core gave 226 and 256 times, in two runs.

With AVX2 only (the same two cores, where ATEN_CPU_CAPABILITY=avx2 and ONEDNN_MAX_CPU_ISA=AVX2 forbade the
rest), 1 seed: reference 99.01 % in 296 s, recipe 99.12 % in 1.24 s, 238 times faster. On an older EPYC that
has no more than AVX2 (one core, float32) whole trainings have not been run beside each other. From parts
timed in CPU seconds and in turn, as lesson 12 does, in ten rounds on a busy machine: reference 760 s, recipe
3.55 s, round by round 215 times faster, quartiles 203 to 228; with Adam's step not fused 203 times, 196 to
209. A shorter timing gave 190 times, so 200 are likely there and not assured. Accuracy on the validation
images: 98.96 ± 0.04 % (n = 6); with 30,720 images 98.85 ± 0.05 %, with 25,600 98.68 ± 0.06 % (n = 3).

On an NVIDIA H200 beside 16 threads of an Intel Xeon (Python 3.12, torch 2.11 for CUDA 13), 3 seeds: reference
99.06 ± 0.04 % in 58 s, recipe 99.10 ± 0.04 % in 0.55 s, run by run 103 times faster, quartiles 100 to 111;
mnist-99.5 99.58 ± 0.03 % in 3.3 s; fashion-93 93.37 ± 0.06 % in 0.33 epochs, quartiles 0.32 to 0.35. On
another such machine, before cuDNN was told to repeat its sums: 120 times (119 to 125), 99.57 % in 3.4 s, 0.34
epochs. A step with 2, 64, 256, 1,024 and 4,096 images took the reference 2.3, 2.2, 2.2, 3.2 and 10.6 ms, and
fast_cnn 3.1, 3.3, 3.6, 3.5 and 3.1 ms (--steps).

Tried on the EPYC with AVX2 only, and no better at equal time (CPU seconds beside the recipe's in one
process; n = 3 where not told):

* a stem that does not learn (random, principal components or cosines of patches): 98.5 to 98.6 %, a third
  less time; one that learns in every fourth step, or in the first 40: 98.8 %, a fifth less
* a second convolution of stride 2, with 46,080 images: 98.94 ± 0.02 %, 0.95 times the seconds in one round;
  with a hidden layer of 128 too: 98.88 ± 0.05 % (n = 5); no second convolution at all: 98.90 ± 0.02 %
* undecided: a warm-up of a tenth with 30,720 images, 98.92 ± 0.03 % beside 98.84 ± 0.08 % (n = 4)

fashion-93 is told in epochs of the reference, timed beside it on MNIST (here by --reference-steps 200). On
two cores of an AMD EPYC with AVX-512: 93.45 ± 0.09 % in 0.99 epochs, quartiles 0.98 to 1.00 (52 s beside 52
s, 3 seeds). The same cores, told to use AVX2 only: 93.29 ± 0.06 % in 1.75 (92 s beside 53 s, 2 seeds). On the
validation images four epochs of 50,000 gave 93.61 ± 0.09 %, three gave 93.36 ± 0.11 % (n = 4). Trained on
50,000 images the test accuracy was 93.00 ± 0.07 % in 0.85 epochs with AVX-512 (3 seeds). Three epochs of
60,000 gave 93.05 ± 0.06 % (n = 4), which is 93 % and no more, for three quarters of the steps: with AVX2
only, 1.3 epochs by proportion. Tried, and no better (with one or two seeds): logits averaged over shifted
images too, longer memories of Adam, twice the rate, a shortcut around the fourth convolution. A network of
29.2 million MACs an image, which was the recipe before, took eight epochs.
"""

import argparse
import functools
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.benchmark import Timer
from torch.utils.data import DataLoader, Subset

from cnnlib.data import Dataset, load, split
from cnnlib.ground.env import DATA, best_device, report, set_seed
from cnnlib.measure.complexity import count_macs, count_parameters
from cnnlib.measure.metrics import mean_se
from cnnlib.models import make_model
from cnnlib.models.layers import MixedPrecision, Normalize
from cnnlib.train import FAST, fit, predict
from cnnlib.train.augment import RandomFlip, RandomShift, predict_flipped, predict_shifted

# isort: split
from torchvision import datasets, transforms

SPLIT_SEED = 1  # of the validation images
BFLOAT16 = torch.cuda.is_available() or torch.ops.mkldnn._is_mkldnn_bf16_supported()


@dataclass(frozen=True)
class Task:
    """A data set, an accuracy to reach on it, and the recipe that reaches it.

    Attributes:
        data: name of the data set.
        target: accuracy on the test images, 0 to 1.
        val_target: accuracy on the validation images by which the length is chosen.
        build: function without arguments that returns a fresh model.
        ask: function of a model and images that returns logits.
        images, epochs: the length that was chosen: passes over so many images, drawn at random.
        choices: lengths (images, epochs) that --choose tries, the shortest first.
        settings: arguments of `fit` that differ from `train.FAST`.
        reference_epochs: epochs of the reference, on MNIST, that are timed beside it; 0: none.
    """

    data: str
    target: float
    val_target: float
    build: Callable
    ask: Callable
    images: int
    epochs: int
    choices: tuple
    settings: dict = field(default_factory=dict)
    reference_epochs: int = 0


def plain():
    return nn.Sequential(Normalize(0.1307, 0.3081), make_model("fast_cnn"))


def shifted():
    return nn.Sequential(RandomShift(1), *plain())


def flipped():
    network = make_model("fast_cnn_deep")
    return nn.Sequential(
        RandomFlip(), Normalize(0.2860, 0.3530), MixedPrecision(network) if BFLOAT16 else network
    )


TASKS = {
    "mnist-99": Task(
        data="mnist",
        target=0.99,
        val_target=0.989,
        build=plain,
        ask=predict,
        images=35_840,
        epochs=1,
        choices=tuple((256 * steps, 1) for steps in range(100, 201, 20)),
        reference_epochs=5,
    ),
    "mnist-99.5": Task(
        data="mnist",
        target=0.995,
        val_target=0.994,
        build=shifted,
        ask=predict_shifted,
        images=60_000,
        epochs=4,
        choices=tuple((50_000, epochs) for epochs in range(2, 7)),
    ),
    "fashion-93": Task(
        data="fashion_mnist",
        target=0.93,
        val_target=0.936,
        build=flipped,
        ask=predict_flipped,
        images=60_000,
        epochs=4,
        choices=tuple((50_000, epochs) for epochs in range(2, 7)),
        settings={"lr": 0.01, "loss": functools.partial(F.cross_entropy, label_smoothing=0.1)},
        reference_epochs=1,  # as a unit: the example knows no clothes
    ),
}
REFERENCE_CHOICES = 6  # epochs at most


class ReferenceCNN(nn.Module):
    """The example program's network: 1,199,882 parameters."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 32, kernel_size=3)  # (N, 32, 26, 26)
        self.conv2 = nn.Conv2d(32, 64, kernel_size=3)  # (N, 64, 24, 24)
        self.linear1 = nn.Linear(64 * 12 * 12, 128)
        self.linear2 = nn.Linear(128, 10)

    def forward(self, images):
        maps = F.max_pool2d(F.relu(self.conv2(F.relu(self.conv1(images)))), 2)
        hidden = F.relu(self.linear1(torch.flatten(F.dropout(maps, 0.25, self.training), start_dim=1)))
        return self.linear2(F.dropout(hidden, 0.5, self.training))


def reference_images(train):
    """Return torchvision's MNIST, with the transforms of the example program."""
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize((0.1307,), (0.3081,))])
    return datasets.MNIST(DATA, train=train, transform=steps)


def train_step(model, optimizer, loss, images, labels):
    optimizer.zero_grad()
    loss(model(images), labels).backward()
    optimizer.step()


def train_reference(images, epochs, seed, device, after_epoch=None, steps=None):
    """Train the reference; return (model, seconds). `after_epoch(model)` is called untimed.

    After so many `steps` it stops, and the seconds are those of all, extrapolated: every step does the same.
    """
    set_seed(seed)
    model = ReferenceCNN().to(device)
    loader = DataLoader(images, batch_size=64, shuffle=True)
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    seconds = 0.0
    for _ in range(epochs):
        started = time.perf_counter()
        model.train()
        for step, (batch, labels) in enumerate(loader):
            if step == steps:
                finish(device)
                return model, (time.perf_counter() - started) * epochs * len(loader) / steps
            batch, labels = batch.to(device), labels.to(device)
            train_step(model, optimizer, F.cross_entropy, batch, labels)
        schedule.step()
        finish(device)
        seconds += time.perf_counter() - started
        if after_epoch:
            after_epoch(model)
    return model, seconds


@torch.no_grad()
def reference_accuracy(model, images, device):
    model.eval()
    batches = DataLoader(images, batch_size=1000)
    correct = sum((model(x.to(device)).argmax(1).cpu() == y).sum().item() for x, y in batches)
    return correct / len(images)


def train_recipe(task, train, images, epochs, seed, device):
    """Train by the recipe; return (model, seconds)."""
    set_seed(seed)
    model = task.build().to(device)
    started = time.perf_counter()
    chosen = train if images >= len(train) else train[torch.randperm(len(train))[:images]]
    fit(model, chosen, epochs=epochs, seed=seed, device=device, progress=False, **FAST | task.settings)
    finish(device)
    return model, time.perf_counter() - started


def accuracy(task, model, data: Dataset):
    return (task.ask(model, data.images).argmax(1) == data.labels).double().mean().item()


def finish(device):
    """Wait for the device, which works on while Python goes ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def choose(tasks, seeds, device):
    """Print for each length the accuracy on the validation images, and mark the one that is chosen."""
    if "mnist-99" in tasks:
        order = torch.randperm(60_000, generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
        val, rest = (Subset(reference_images(train=True), part) for part in (order[:10_000], order[10_000:]))
        runs = []
        for seed in range(seeds):
            runs.append([])
            train_reference(
                rest,
                REFERENCE_CHOICES,
                seed,
                device,
                lambda model: runs[-1].append(reference_accuracy(model, val, device)),
            )
        print_choice(
            "reference",
            0.99,
            [(f"{i + 1} epochs", values) for i, values in enumerate(zip(*runs, strict=True))],
        )
    for name in tasks:
        task = TASKS[name]
        train, val = split(load(task.data), 10_000, seed=SPLIT_SEED)
        rows = []
        for images, epochs in task.choices:
            models = [train_recipe(task, train, images, epochs, seed, device)[0] for seed in range(seeds)]
            rows.append((f"{images:,} × {epochs}", [accuracy(task, model, val) for model in models]))
        print_choice(name, task.val_target, rows)


def print_choice(name, target, rows):
    reached = [label for label, values in rows if mean_se(values).mean >= target]
    print(f"\n{name}: validation accuracy, target {target:.1%}")
    for label, values in rows:
        mark = "  <- the shortest" if reached and label == reached[0] else ""
        print(f"  {label:>14}  {mean_se(values):.2%}{mark}", flush=True)


def measure(name, seeds, device, steps=None):
    """Run a task for each seed, beside the reference or its first steps where there is one; print a table."""
    task = TASKS[name]
    train, test = load(task.data), load(task.data, "test")
    if task.reference_epochs:
        reference_train, reference_test = (reference_images(train=part) for part in (True, False))
    train_recipe(task, train, 5_120, 1, 0, device)  # warm up: memory, caches, threads
    ours, theirs = [], []
    for seed in range(100, 100 + seeds):  # not the seeds by which the lengths were chosen

        def reference(seed=seed):
            model, seconds = train_reference(
                reference_train, task.reference_epochs, seed, device, steps=steps
            )
            correct = reference_accuracy(model, reference_test, device) if steps is None else 0.0
            theirs.append((correct, seconds))

        if task.reference_epochs and seed % 2 == 0:
            reference()
        model, seconds = train_recipe(task, train, task.images, task.epochs, seed, device)
        started = time.perf_counter()
        ours.append((accuracy(task, model, test), seconds, time.perf_counter() - started))
        if task.reference_epochs and seed % 2:
            reference()

    print(f"\n{name}: target {task.target:.1%} of {task.data}'s test images, {seeds} seeds")
    print(
        f"  {'':20}{'test accuracy':>24}{'seconds':>24}{'parameters':>12}{'MACs an image':>15}{'images':>10}"
    )
    if theirs:
        unit = task.reference_epochs == 1  # what the recipe is told in, whatever its data
        label = "reference, on MNIST" if unit else "reference"
        label = label if steps is None else f"its first {steps} steps"
        show(label, theirs, ReferenceCNN(), 60_000 * task.reference_epochs, extrapolated=steps is not None)
    show("recipe", ours, task.build(), task.images * task.epochs)
    print(f"  asking for 10,000 test images: {statistics.median(o[2] for o in ours):.2f} s")
    if theirs:
        quartiles = np.quantile([t[1] / o[1] for t, o in zip(theirs, ours, strict=True)], (0.25, 0.5, 0.75))
        if unit:
            low, middle, high = (f"{ratio:.2f}" for ratio in 1 / quartiles[::-1])
            compared = "recipe / one epoch of the reference"
        else:
            low, middle, high = (f"{ratio:.0f}" for ratio in quartiles)
            compared = "reference / recipe"
        print(f"  {compared}, run by run: median {middle}, quartiles {low} to {high} times")


def time_steps(device, sizes=(2, 64, 256, 1024, 4096)):
    """Print the median milliseconds of a training step of each size, on images that lie on the device."""
    reference, fast = ReferenceCNN(), plain().to(memory_format=torch.channels_last)
    learners = {
        "reference": (reference, torch.optim.Adadelta(reference.parameters(), lr=1.0), F.cross_entropy),
        "fast_cnn": (fast, FAST["optimizer"](fast.parameters(), lr=0.001), FAST["loss"]),
    }
    print(f"\nms a step with {', '.join(f'{size:,}' for size in sizes)} images, median")
    for name, (model, optimizer, loss) in learners.items():
        learner = model.to(device).train(), optimizer, loss
        medians = []
        for size in sizes:
            batch = torch.rand(size, 1, 28, 28, device=device), torch.randint(10, (size,), device=device)
            names = {"train_step": train_step, "learner": learner, "batch": batch}
            timer = Timer("train_step(*learner, *batch)", globals=names, num_threads=torch.get_num_threads())
            medians.append(1000 * timer.blocked_autorange(min_run_time=1).median)  # warms up, waits for a GPU
        print(f"  {name:12}", *(f"{median:10.2f}" for median in medians), flush=True)


def show(name, rows, model, images, extrapolated=False):
    correct, seconds = (mean_se(row[i] for row in rows) for i in (0, 1))
    share = "extrapolated" if extrapolated else f"{correct:.2%}"
    size = f"{count_parameters(model):>12,}{count_macs(model, (1, 28, 28)):>15,}{images:>10,}"
    print(f"  {name:20}{share:>24}{f'{seconds:.2f}':>24}{size}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", nargs="+", default=list(TASKS), choices=TASKS, metavar="TASK")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--reference-steps", type=int, help="train the reference for so many steps only, and extrapolate"
    )
    parser.add_argument("--steps", action="store_true", help="time single steps of several sizes, and stop")
    parser.add_argument("--choose", action="store_true", help="show how the lengths were chosen, and stop")
    arguments = parser.parse_args()
    device = best_device(arguments.device)
    facts = report()
    print(f"torch {facts['torch']}, {device}, {facts['CPU threads']} threads")
    if arguments.steps:
        time_steps(device)
    elif arguments.choose:
        choose(arguments.tasks, arguments.seeds, device)
    else:
        for name in arguments.tasks:
            measure(name, arguments.seeds, device, arguments.reference_steps)


if __name__ == "__main__":
    main()
