"""Exercises of lesson 03, a CNN for handwritten digits."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.course.exercises import Exercise, normal


def stratified_split(labels, share):
    """Return positions for training and for validation, with the same share of every class.

    Of each class with n images, the last round(share · n) images in the order of the data set
    become validation images, the others training images.
    labels: (N,) int64 tensor; share: float between 0 and 1.
    Returns a list of two (…,) int64 tensors, train and val, each in ascending order.
    """
    is_val = torch.zeros(len(labels), dtype=torch.bool)
    for k in labels.unique():
        places = (labels == k).nonzero().flatten()
        count = round(share * len(places))
        is_val[places[len(places) - count :]] = True
    return [(~is_val).nonzero().flatten(), is_val.nonzero().flatten()]


def split_anywhere(labels, share):
    positions = torch.arange(len(labels))
    count = round(share * len(labels))
    return [positions[: len(labels) - count], positions[len(labels) - count :]]


def split_first(labels, share):
    train, val = stratified_split(labels.flip(0), share)
    return [len(labels) - 1 - train.flip(0), len(labels) - 1 - val.flip(0)]


def split_by_class(labels, share):
    train, val = stratified_split(labels, share)
    return [train[labels[train].argsort(stable=True)], val[labels[val].argsort(stable=True)]]


def split_equal_counts(labels, share):
    classes = labels.unique()
    count = round(share * len(labels) / len(classes))
    val = torch.cat([(labels == k).nonzero().flatten()[-count:] for k in classes]).sort().values
    keep = torch.ones(len(labels), dtype=torch.bool)
    keep[val] = False
    return [keep.nonzero().flatten(), val]


def split_cases(rng):
    fixed = torch.tensor([2, 0, 0, 1, 0, 2, 0, 0, 1, 0, 2, 0, 2, 0])
    cases = [[fixed, 0.3], [torch.tensor([3, 3, 3, 3]), 0.5]]
    for n, k, share in ((40, 3, 0.2), (25, 10, 0.4)):
        drawn = torch.from_numpy(rng.integers(0, k, n))
        cases.append([torch.cat([torch.zeros(9, dtype=torch.int64), drawn]), share])
    return cases


def cross_entropy_gradient(logits, labels):
    """Return the gradient of the mean cross-entropy with respect to the logits, without autograd.

    logits: (N, K) float tensor, which may be large (such as 1000); labels: (N,) int64 tensor.
    Returns (N, K).
    """
    top = logits.max(dim=1, keepdim=True).values
    p = (logits - top).exp()
    p = p / p.sum(dim=1, keepdim=True)
    p[torch.arange(len(labels)), labels] -= 1
    return p / len(labels)


def gradient_of_sum(logits, labels):
    return cross_entropy_gradient(logits, labels) * len(labels)


def gradient_sign(logits, labels):
    return -cross_entropy_gradient(logits, labels)


def gradient_overflow(logits, labels):
    p = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    p[torch.arange(len(labels)), labels] -= 1
    return p / len(labels)


def gradient_label_only(logits, labels):
    gradient = cross_entropy_gradient(logits, labels)
    only = torch.zeros_like(gradient)
    rows = torch.arange(len(labels))
    only[rows, labels] = gradient[rows, labels]
    return only


def gradient_cases(rng):
    huge = torch.tensor([[1000.0, 0.0, 999.0], [-1000.0, -1001.0, -1000.5]])
    cases = []
    for n, k in ((2, 3), (5, 10), (3, 2)):
        cases.append([3 * normal(rng, n, k), torch.from_numpy(rng.integers(0, k, n))])
    return [*cases, [huge, torch.tensor([2, 0])]]


def shift_images(images, rows, columns):
    """Move each image by its own number of pixels, and fill what becomes free with 0.

    images: (N, C, H, W) uint8 tensor; rows, columns: lists of N ints, how far image n moves down
    and to the right (negative: up and to the left), at most 3. What leaves the frame is lost.
    Returns (N, C, H, W) uint8.
    """
    _, _, height, width = images.shape
    wide = F.pad(images, (3, 3, 3, 3))
    moved = [
        image[:, 3 - down : 3 - down + height, 3 - right : 3 - right + width]
        for image, down, right in zip(wide, rows, columns, strict=True)
    ]
    return torch.stack(moved)


def shift_around(images, rows, columns):
    pairs = zip(images, zip(rows, columns, strict=True), strict=True)
    return torch.stack([image.roll(by, dims=(1, 2)) for image, by in pairs])


def shift_back(images, rows, columns):
    return shift_images(images, [-x for x in rows], [-x for x in columns])


def shift_swapped(images, rows, columns):
    return shift_images(images, columns, rows)


def shift_together(images, rows, columns):
    return shift_images(images, rows[:1] * len(rows), columns[:1] * len(columns))


def shift_cases(rng):
    cases = []
    for n, c, h, w in ((3, 1, 6, 6), (2, 3, 5, 8), (5, 1, 28, 28)):
        images = torch.from_numpy(rng.integers(1, 256, (n, c, h, w), dtype="uint8"))
        rows, columns = rng.integers(-3, 4, n).tolist(), rng.integers(-3, 4, n).tolist()
        rows[:2], columns[:2] = [1, -2], [3, 0]
        cases.append([images, rows, columns])
    return [*cases, [cases[0][0], [0, 0, 0], [0, 0, 0]]]


class PrintedNet(nn.Module):
    """The network whose printed form is shown for PrintedNet(width=6, num_classes=10).

    Images (N, 1, 28, 28) pass through the parts in the order in which they are printed, and are flattened
    before the head. Returns logits (N, num_classes). Parameters have the names that the print shows, such
    as blocks.0.1.weight.
    """

    def __init__(self, width, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(1, width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)) for _ in range(2)
        )
        self.pool = nn.MaxPool2d(2)
        self.head = nn.Linear(width * 7 * 7, num_classes)

    def forward(self, images):
        maps = self.stem(images)
        for block in self.blocks:
            maps = block(maps)
        return self.head(self.pool(maps).flatten(1))


class PrintedShared(PrintedNet):
    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        self.blocks = nn.ModuleList([self.blocks[0]] * 2)


class PrintedOneBlock(PrintedNet):
    def forward(self, images):
        return self.head(self.pool(self.blocks[0](self.stem(images))).flatten(1))


class PrintedReluLast(PrintedNet):
    def forward(self, images):
        maps = self.stem(images)
        for relu, conv in self.blocks:
            maps = relu(conv(maps))
        return self.head(self.pool(maps).flatten(1))


class PrintedPoolFirst(PrintedNet):
    def forward(self, images):
        maps = self.pool(self.stem(images))
        for block in self.blocks:
            maps = block(maps)
        return self.head(maps.flatten(1))


class PrintedBias(PrintedNet):
    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        for block in self.blocks:
            block[1] = nn.Conv2d(width, width, 3, padding=1)


class PrintedUnregistered(PrintedNet):
    def __init__(self, width, num_classes):
        super().__init__(width, num_classes)
        del self.blocks
        self.blocks = [
            nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 3, padding=1, bias=False)) for _ in range(2)
        ]


def printed_cases(rng):
    return [
        {
            "arguments": {"width": width, "num_classes": num_classes},
            "training": training,
            "inputs": [normal(rng, n, 1, 28, 28)],
        }
        for n, width, num_classes, training in ((2, 6, 10, True), (1, 4, 3, False), (3, 2, 10, True))
    ]


def momentum_epoch(weight, bias, images, labels, lr, momentum, batch_size):
    """Train a linear classifier for one epoch by SGD with momentum, without torch.optim.

    The logits are images @ weight.T + bias. A batch is batch_size neighbours, in order; the last may be
    smaller. Each parameter has a velocity, 0 before the first step. In a step the velocity becomes momentum
    times itself plus the gradient of the batch's mean cross-entropy, and the parameter moves by −lr times
    the new velocity. weight (K, D), bias (K,), images (N, D) are float, labels (N,) int64; none is changed.
    Returns [weight, bias, loss]: the parameters after the last step, and the mean over all N images of
    the loss that each had when its batch was met, before the step: a float.
    """
    parameters = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    velocities, total = [0.0, 0.0], 0.0
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        loss = F.cross_entropy(x @ parameters[0].T + parameters[1], y)
        gradients = torch.autograd.grad(loss, parameters)
        total += loss.item() * len(y)
        with torch.no_grad():
            for i, (parameter, gradient) in enumerate(zip(parameters, gradients, strict=True)):
                velocities[i] = momentum * velocities[i] + gradient
                parameter -= lr * velocities[i]
    return [*parameters, total / len(labels)]


def _momentum(weight, bias, images, labels, lr, momentum, batch_size, fault):
    """Do the same with one fault."""
    parameters = [weight.clone().requires_grad_(), bias.clone().requires_grad_()]
    velocities, sums, losses, sizes = [0.0, 0.0], [0.0, 0.0], [], []
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        loss = F.cross_entropy(x @ parameters[0].T + parameters[1], y)
        gradients = torch.autograd.grad(loss, parameters)
        sums = [s + g for s, g in zip(sums, gradients, strict=True)]
        with torch.no_grad():
            for i, (parameter, g) in enumerate(zip(parameters, gradients, strict=True)):
                g = sums[i] if fault == "adds up" else (1 - momentum) * g if fault == "damped" else g
                velocities[i] = g if fault == "forgets" else momentum * velocities[i] + g
                ahead = g + momentum * velocities[i] if fault == "nesterov" else velocities[i]
                parameter -= lr * ahead
            if fault == "after":
                loss = F.cross_entropy(x @ parameters[0].T + parameters[1], y)
        losses.append(loss.item())
        sizes.append(1 if fault == "batches" else len(y))
    return [*parameters, sum(a * n for a, n in zip(losses, sizes, strict=True)) / sum(sizes)]


def momentum_cases(rng):
    cases = []
    for n, batch_size, d, k in ((7, 3, 3, 2), (9, 4, 4, 3), (13, 5, 5, 10), (5, 2, 2, 3)):
        labels = torch.from_numpy(rng.integers(0, k, n))
        lr, momentum = round(float(rng.uniform(0.2, 0.5)), 2), round(float(rng.uniform(0.6, 0.95)), 2)
        cases.append([normal(rng, k, d), normal(rng, k), normal(rng, n, d), labels, lr, momentum, batch_size])
    return cases


def train_loop(weight, bias, train, val, lr, epochs):
    """Train a linear classifier by SGD; return [weight, bias, losses]: the weights that were best on val.

    train, val: lists of batches [images (N, D), labels (N,)]; losses: of all val images, after each epoch."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimizer, losses, images = torch.optim.SGD([weight, bias], lr=lr), [], sum(len(y) for _, y in val)
    for _ in range(epochs):
        for x, y in train:
            optimizer.zero_grad()
            F.cross_entropy(x @ weight.T + bias, y).backward()
            optimizer.step()
        parts = [F.cross_entropy(x @ weight.T + bias, y, reduction="sum").item() for x, y in val]
        losses.append(sum(parts) / images)
        if losses[-1] == min(losses):
            best = [weight.detach().clone(), bias.detach().clone()]
    return [*best, losses]


def train_loop_three_faults(weight, bias, train, val, lr, epochs):
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimizer, losses = torch.optim.SGD([weight, bias], lr=lr), []
    for _ in range(epochs):
        optimizer.zero_grad()
        for x, y in train:
            F.cross_entropy(x @ weight.T + bias, y).backward()
            optimizer.step()
        losses.append(sum(F.cross_entropy(x @ weight.T + bias, y).item() for x, y in val) / len(val))
        if losses[-1] == min(losses):
            best = [weight.detach(), bias.detach()]
    return [*best, losses]


def _loop(weight, bias, train, val, lr, epochs, *, faults):
    """Do the same with some faults: of "adds up", "batches", "alias", "softmax"."""
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimizer, losses, best = torch.optim.SGD([weight, bias], lr=lr), [], None
    for _ in range(epochs):
        optimizer.zero_grad()
        for x, y in train:
            if "adds up" not in faults:
                optimizer.zero_grad()
            logits = x @ weight.T + bias
            F.cross_entropy(logits.softmax(dim=1) if "softmax" in faults else logits, y).backward()
            optimizer.step()
        parts = [F.cross_entropy(x @ weight.T + bias, y).item() for x, y in val]
        sizes = [1 if "batches" in faults else len(y) for _, y in val]
        losses.append(sum(a * n for a, n in zip(parts, sizes, strict=True)) / sum(sizes))
        if losses[-1] == min(losses):
            best = [v.detach() if "alias" in faults else v.detach().clone() for v in (weight, bias)]
    return [*best, losses]


def train_loop_cases(rng):
    def cut(n, batch_size, d, k):
        images, labels = normal(rng, n, d), torch.from_numpy(rng.integers(0, k, n))
        return [list(batch) for batch in zip(images.split(batch_size), labels.split(batch_size), strict=True)]

    cases = []
    for n, m, batch_size, d, k in ((8, 5, 4, 3, 2), (9, 7, 3, 4, 3), (11, 9, 4, 5, 10), (6, 4, 3, 6, 3)):
        while True:  # until the best epoch is a clear one, neither the first nor the last
            case = [normal(rng, k, d), normal(rng, k), cut(n, batch_size, d, k), cut(m, batch_size, d, k)]
            case += [round(float(rng.uniform(0.3, 0.9)), 2), 6]
            losses = train_loop(*case)[2]
            lowest, second, *_ = sorted(losses)
            if min(losses[0], losses[-1]) > lowest + 0.05 and second > lowest + 0.005:
                break
        cases.append(case)
    return cases


EXERCISES = [
    Exercise(
        "03.stratified_split",
        2,
        stratified_split,
        split_cases,
        {
            "cuts the data set in one place, whatever the classes": split_anywhere,
            "takes the first images of each class for validation": split_first,
            "returns the positions class by class, not in ascending order": split_by_class,
            "takes equally many images of each class": split_equal_counts,
        },
        (
            "(labels == k).nonzero().flatten() are the positions of class k, in ascending order.",
            "Mark the validation images in a tensor of N booleans, class by class; read both lists off it.",
        ),
    ),
    Exercise(
        "03.PrintedNet",
        2,
        PrintedNet,
        printed_cases,
        {
            "uses one block twice instead of two blocks": PrintedShared,
            "passes through one of the two blocks only": PrintedOneBlock,
            "applies each ReLU after its convolution": PrintedReluLast,
            "pools before the blocks": PrintedPoolFirst,
            "gives the blocks' convolutions a bias": PrintedBias,
            "keeps the blocks in a list that PyTorch does not look into": PrintedUnregistered,
        },
        (
            "Each name in parentheses is an attribute of self, or a position in what holds it.",
            "nn.ModuleList(list of modules) registers them; a plain Python list does not. It has no forward "
            "of its own: loop over it.",
            "28 pixels, a stride of 2, pooling by 2: how many are left, and what is 294 divided by them?",
        ),
        rtol=1e-3,
        atol=1e-4,
    ),
    Exercise(
        "03.cross_entropy_gradient",
        2,
        cross_entropy_gradient,
        gradient_cases,
        {
            "forgets that the loss is a mean over the batch": gradient_of_sum,
            "has the wrong sign": gradient_sign,
            "overflows in exp": gradient_overflow,
            "changes nothing but the logit of the label": gradient_label_only,
        },
        (
            '"What you said minus what is true", for each image.',
            "Subtract the largest logit of each row before exp: the probabilities stay the same.",
            "The mean over N images gives each of them the weight 1/N.",
        ),
    ),
    Exercise(
        "03.momentum_epoch",
        3,
        momentum_epoch,
        momentum_cases,
        {
            "lets the gradients of all batches add up": partial(_momentum, fault="adds up"),
            "begins each step with a velocity of 0": partial(_momentum, fault="forgets"),
            "multiplies the gradient by 1 − momentum": partial(_momentum, fault="damped"),
            "moves along the gradient as well as the velocity": partial(_momentum, fault="nesterov"),
            "measures the loss after the step": partial(_momentum, fault="after"),
            "gives every batch's loss the same weight, however small it is": partial(
                _momentum, fault="batches"
            ),
        },
        (
            "Test yourself with torch.optim.SGD([weight, bias], lr=lr, momentum=momentum).",
            "torch.autograd.grad(loss, [weight, bias]) returns the two gradients and leaves nothing behind.",
            "Change parameters inside torch.no_grad(), or make new ones with requires_grad_() in each step.",
        ),
    ),
    Exercise(
        "03.train_loop",
        3,
        train_loop,
        train_loop_cases,
        {
            "has three faults": train_loop_three_faults,
            "still lets gradients add up within an epoch": partial(_loop, faults=("adds up",)),
            "still gives every val batch the same weight": partial(_loop, faults=("batches",)),
            "still returns the last weights as the best ones": partial(_loop, faults=("alias",)),
            "has mended only how the best weights are kept": partial(_loop, faults=("adds up", "batches")),
            "has mended only the loss on val": partial(_loop, faults=("adds up", "alias")),
            "has mended only the gradients": partial(_loop, faults=("batches", "alias")),
            "applies a softmax before the cross-entropy": partial(_loop, faults=("softmax",)),
        },
        (
            "The faults are independent: one is in the steps, one in the measuring, one in what is kept.",
            "Print weight.grad after each backward(), and compare with the gradient of that batch alone.",
            "Which batches of val are smaller than the others, and how much should their images count?",
            "x.detach() is another name for the same numbers in memory. What does the optimizer do to them "
            "in the next epoch?",
        ),
        given=train_loop_three_faults,
    ),
    Exercise(
        "03.shift_images",
        1,
        shift_images,
        shift_cases,
        {
            "lets what leaves on one side come in on the other": shift_around,
            "moves into the opposite direction": shift_back,
            "confuses rows with columns": shift_swapped,
            "moves all images like the first one": shift_together,
        },
        (
            "Put a margin of zeros around the images, and cut a window of the old size out of each.",
            "An image that moves down is seen through a window that moves up.",
        ),
    ),
]
