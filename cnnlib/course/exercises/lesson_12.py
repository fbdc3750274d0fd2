"""Exercises of lesson 12, where training time goes: a schedule, views of images, fixed costs."""

import torch
import torch.nn.functional as F

from cnnlib.course.exercises import Exercise, normal


def one_cycle(steps, peak, warmup):
    """Return the learning rates of a run, one a step.

    steps: int, 2 or more; peak: float; warmup: int, how many steps the rate rises, 1 to steps − 1. It
    rises in equal parts, so that the last of the `warmup` steps is made at the peak and the first is not
    wasted at 0; then it falls in equal parts and would reach 0 one step after the last. Returns a list of
    `steps` floats.
    """
    rise = [peak * (i + 1) / warmup for i in range(warmup)]
    fall = [peak * (steps - i) / (steps - warmup + 1) for i in range(warmup, steps)]
    return rise + fall


def one_cycle_wasted(steps, peak, warmup):
    rise = [peak * i / warmup for i in range(warmup)]
    fall = [peak * (steps - i) / (steps - warmup) for i in range(warmup, steps)]
    return rise + fall


def one_cycle_twice(steps, peak, warmup):
    rates = one_cycle(steps, peak, warmup)
    return rates[:warmup] + [peak * (steps - i) / (steps - warmup) for i in range(warmup, steps)]


def one_cycle_to_zero(steps, peak, warmup):
    fall = [peak * (steps - 1 - i) / (steps - warmup) for i in range(warmup, steps)]
    return one_cycle(steps, peak, warmup)[:warmup] + fall


def one_cycle_constant(steps, peak, warmup):
    return one_cycle(steps, peak, warmup)[:warmup] + [peak] * (steps - warmup)


def cycle_cases(rng):
    cases = [[10, 0.03, 2], [2, 1.0, 1], [7, 0.5, 6]]
    return [*cases, [int(rng.integers(12, 40)), float(rng.uniform(0.1, 2)), int(rng.integers(2, 9))]]


def shift_each(images, down, right):
    """Move each image by its own number of pixels; what comes in from outside is 0.

    images: (N, C, H, W) float tensor; down, right: (N,) int64, from −2 to 2: image n moves down[n] pixels
    down and right[n] to the right, negative ones up and left. Returns (N, C, H, W). Image by image would
    take most of a training step's time: use no loop over the images.
    """
    n, channels, height, width = images.shape
    padded = F.pad(images, (2, 2, 2, 2))
    rows = torch.arange(height) + 2 - down[:, None]  # (N, H): where each row comes from
    columns = torch.arange(width) + 2 - right[:, None]
    which, of = torch.arange(n)[:, None, None, None], torch.arange(channels)[None, :, None, None]
    return padded[which, of, rows[:, None, :, None], columns[:, None, None, :]]


def shift_back(images, down, right):
    return shift_each(images, -down, -right)


def shift_swapped(images, down, right):
    return shift_each(images, right, down)


def shift_same(images, down, right):
    return shift_each(images, down[:1].expand(len(images)), right[:1].expand(len(images)))


def shift_around(images, down, right):
    moved = [torch.roll(x, (int(d), int(r)), (1, 2)) for x, d, r in zip(images, down, right, strict=True)]
    return torch.stack(moved)


def shift_cases(rng):
    cases = [[torch.arange(1.0, 25).reshape(2, 1, 3, 4), torch.tensor([1, 0]), torch.tensor([0, -2])]]
    for n, c, h, w in ((5, 1, 6, 6), (4, 3, 5, 8), (7, 2, 4, 3)):
        down, right = torch.from_numpy(rng.integers(-2, 3, (2, n)))
        down[0], right[0] = 2, -1
        cases.append([normal(rng, n, c, h, w), down, right])
    return cases


def step_speedup(sizes, seconds, batch_size, faster):
    """Return how many times faster a training step gets when only its arithmetic does.

    sizes: list of at least two different ints, batch sizes; seconds: list of floats, what a step of each
    took. A step takes a + b · size: the fixed part a (Python, calls, small tensors) is the same for any
    size, b is the arithmetic for an image. Fit a and b by least squares; take 0 for a negative a. With
    arithmetic `faster` times as fast, by what factor does the time of a step of `batch_size` fall? Returns
    a float.
    """
    x, y = torch.tensor(sizes, dtype=torch.float64), torch.tensor(seconds, dtype=torch.float64)
    b = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    a = (y.mean() - b * x.mean()).clamp(min=0)
    return float((a + b * batch_size) / (a + b * batch_size / faster))


def speedup_all(sizes, seconds, batch_size, faster):
    return float(faster)


def speedup_ends(sizes, seconds, batch_size, faster):
    return step_speedup([sizes[0], sizes[-1]], [seconds[0], seconds[-1]], batch_size, faster)


def speedup_whole(sizes, seconds, batch_size, faster):
    return step_speedup(sizes, seconds, 1, faster)


def speedup_inverse(sizes, seconds, batch_size, faster):
    return 1 / step_speedup(sizes, seconds, batch_size, faster)


def speedup_negative(sizes, seconds, batch_size, faster):
    x, y = torch.tensor(sizes, dtype=torch.float64), torch.tensor(seconds, dtype=torch.float64)
    b = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    a = y.mean() - b * x.mean()
    return float((a + b * batch_size) / (a + b * batch_size / faster))


def speedup_cases(rng):
    cases = [[[1, 64, 128], [0.0021, 0.0062, 0.0128], 64, 100.0]]
    cases.append([[1, 50, 100], [0.001, 0.09, 0.21], 100, 4.0])  # a fitted a below 0
    for count in (4, 6):
        sizes = sorted(rng.choice(range(1, 500), count, replace=False).tolist())
        a, b = rng.uniform(0.002, 0.01), rng.uniform(1e-5, 1e-4)
        seconds = [(a + b * size) * rng.uniform(0.9, 1.1) for size in sizes]
        cases.append([sizes, seconds, int(rng.integers(32, 256)), float(rng.uniform(2, 50))])
    return cases


EXERCISES = [
    Exercise(
        "12.one_cycle",
        points=1,
        reference=one_cycle,
        cases=cycle_cases,
        mutants={
            "makes its first step at rate 0": one_cycle_wasted,
            "makes two steps at the peak": one_cycle_twice,
            "makes its last step at rate 0": one_cycle_to_zero,
            "stays at the peak": one_cycle_constant,
        },
        hints=(
            "Print the list for 10 steps, 2 of them rising. Which step changes no weight?",
            "The rise has `warmup` equal parts, the fall steps − warmup + 1; the last is not made.",
        ),
        given=one_cycle_wasted,
    ),
    Exercise(
        "12.step_speedup",
        points=2,
        reference=step_speedup,
        cases=speedup_cases,
        mutants={
            "takes the whole step for arithmetic": speedup_all,
            "draws the line through the first and the last point": speedup_ends,
            "asks for a step of one image": speedup_whole,
            "divides the new time by the old": speedup_inverse,
            "works on with a negative fixed part": speedup_negative,
        },
        hints=(
            "b = Σ(x − x̄)(y − ȳ) / Σ(x − x̄)², a = ȳ − b · x̄, and a is not below 0.",
            "(a + b · batch_size) / (a + b · batch_size / faster): Amdahl's law.",
        ),
        rtol=1e-3,
    ),
    Exercise(
        "12.shift_each",
        points=2,
        reference=shift_each,
        cases=shift_cases,
        mutants={
            "moves the images the other way": shift_back,
            "takes down for right": shift_swapped,
            "moves all images as the first": shift_same,
            "lets come in on one side what went out on the other": shift_around,
        },
        hints=(
            "Pad by 2 first; then each image is a window of its own on the padded one.",
            "Row i of an image moved down by d is row i − d of the old one, i + 2 − d of the padded one.",
            "Indices of shapes (N, 1, 1, 1), (1, C, 1, 1), (N, 1, H, 1) and (N, 1, 1, W) give all pixels.",
        ),
    ),
]
