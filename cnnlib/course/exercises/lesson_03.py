"""Exercises of lesson 03, a CNN for handwritten digits."""

import torch
import torch.nn.functional as F

from cnnlib.course.exercises import Exercise, normal


def best_epoch(val_losses, patience):
    """Return the epoch whose weights early stopping keeps, and how many epochs were trained.

    Training stops after `patience` epochs in a row without a new lowest loss on the validation
    set, or when val_losses ends. Of equal losses the first one counts.
    val_losses: list of floats, one an epoch; patience: int ≥ 1.
    Returns a list of two ints: the epoch that is kept, counted from 0, and the epochs trained.
    """
    best = 0
    for epoch, loss in enumerate(val_losses):
        if loss < val_losses[best]:
            best = epoch
        if epoch - best == patience:
            return [best, epoch + 1]
    return [best, len(val_losses)]


def best_in_hindsight(val_losses, patience):
    return [val_losses.index(min(val_losses)), best_epoch(val_losses, patience)[1]]


def best_last(val_losses, patience):
    trained = best_epoch(val_losses, patience)[1]
    return [trained - 1, trained]


def best_total(val_losses, patience):
    best, misses = 0, 0
    for epoch, loss in enumerate(val_losses):
        if loss < val_losses[best]:
            best = epoch
        elif epoch:
            misses += 1
        if misses == patience:
            return [best, epoch + 1]
    return [best, len(val_losses)]


def best_neighbour(val_losses, patience):
    rises = 0
    for epoch in range(1, len(val_losses)):
        rises = rises + 1 if val_losses[epoch] >= val_losses[epoch - 1] else 0
        if rises == patience:
            return [val_losses.index(min(val_losses[: epoch + 1])), epoch + 1]
    return [val_losses.index(min(val_losses)), len(val_losses)]


def best_ties(val_losses, patience):
    best = 0
    for epoch, loss in enumerate(val_losses):
        if loss <= val_losses[best]:
            best = epoch
        if epoch - best == patience:
            return [best, epoch + 1]
    return [best, len(val_losses)]


def best_cases(rng):
    cases = [
        [[0.9, 0.5, 0.7, 0.6, 0.4, 0.8, 0.7, 0.9, 0.1], 3],
        [[0.9, 0.5, 0.7, 0.6, 0.2], 2],
        [[0.5, 0.5, 0.5, 0.5], 3],
        [[0.3], 1],
    ]
    for n, patience in ((8, 2), (15, 4), (30, 3)):
        cases.append([[float(x) for x in rng.uniform(0.1, 1, n)], patience])
    return cases


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


def train_steps(weight, bias, images, labels, lr, batch_size):
    """Train a linear classifier by SGD, with one step for each batch of one pass over the images.

    A batch is batch_size neighbours, in order; the last may be smaller. A step moves weight and bias
    by −lr times the gradient of their mean cross-entropy. weight (K, D), bias (K,), images (N, D) are
    float, labels (N,) int64; none is changed. Returns [weight, bias] after the last step.
    """
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimizer = torch.optim.SGD([weight, bias], lr=lr)
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        loss = F.cross_entropy(x @ weight.T + bias, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [weight, bias]


def train_steps_accumulating(weight, bias, images, labels, lr, batch_size):
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    optimizer = torch.optim.SGD([weight, bias], lr=lr)
    optimizer.zero_grad()
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        loss = F.cross_entropy(x @ weight.T + bias, y)
        loss.backward()
        optimizer.step()
    return [weight, bias]


def _train(weight, bias, images, labels, lr, batch_size, loss=F.cross_entropy, late=False):
    weight, bias = weight.clone().requires_grad_(), bias.clone().requires_grad_()
    grads = [torch.zeros_like(weight), torch.zeros_like(bias)]
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        new = torch.autograd.grad(loss(x @ weight.T + bias, y), [weight, bias])
        grads, used = new, grads if late else new
        weight, bias = (
            v.detach().sub(lr * g).requires_grad_() for v, g in zip((weight, bias), used, strict=True)
        )
    return [weight, bias]


def train_steps_late(*arguments):
    return _train(*arguments, late=True)


def train_steps_of_sum(*arguments):
    return _train(*arguments, loss=lambda logits, y: F.cross_entropy(logits, y, reduction="sum"))


def train_steps_softmax(*arguments):
    return _train(*arguments, loss=lambda logits, y: F.cross_entropy(logits.softmax(dim=1), y))


def train_steps_uphill(weight, bias, images, labels, lr, batch_size):
    return _train(weight, bias, images, labels, -lr, batch_size)


def train_steps_whole_batches(weight, bias, images, labels, lr, batch_size):
    whole = len(images) // batch_size * batch_size
    return _train(weight, bias, images[:whole], labels[:whole], lr, batch_size)


def train_steps_cases(rng):
    cases = []
    for n, batch_size, d, k in ((4, 4, 3, 2), (9, 3, 4, 3), (11, 4, 5, 10), (7, 2, 2, 3)):
        labels = torch.from_numpy(rng.integers(0, k, n))
        lr = round(float(rng.uniform(0.2, 0.5)), 2)
        cases.append([normal(rng, k, d), normal(rng, k), normal(rng, n, d), labels, lr, batch_size])
    return cases


def mean_loss(weight, bias, images, labels, batch_size):
    """Return the mean cross-entropy and the accuracy of a linear classifier, batch by batch.

    Both are means over the N images, so they do not depend on batch_size, which only limits how
    many logits exist at a time; the last batch may be smaller.
    weight: (K, D), bias: (K,), images: (N, D) float tensors; labels: (N,) int64; batch_size: int.
    Returns a list of two floats.
    """
    total, correct = 0.0, 0
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        logits = x @ weight.T + bias
        total += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(dim=1) == y).sum().item()
    return [total / len(labels), correct / len(labels)]


def mean_loss_of_batches(weight, bias, images, labels, batch_size):
    losses, correct = [], 0
    for x, y in zip(images.split(batch_size), labels.split(batch_size), strict=True):
        logits = x @ weight.T + bias
        losses.append(F.cross_entropy(logits, y).item())
        correct += (logits.argmax(dim=1) == y).sum().item()
    return [sum(losses) / len(losses), correct / len(labels)]


def mean_loss_all_means(weight, bias, images, labels, batch_size):
    batches = zip(images.split(batch_size), labels.split(batch_size), strict=True)
    parts = torch.tensor([mean_loss(weight, bias, x, y, batch_size) for x, y in batches])
    return parts.mean(dim=0).tolist()


def mean_loss_full_batches(weight, bias, images, labels, batch_size):
    counted = -(-len(labels) // batch_size) * batch_size
    return [value * len(labels) / counted for value in mean_loss(weight, bias, images, labels, batch_size)]


def mean_loss_sum(weight, bias, images, labels, batch_size):
    loss, accuracy = mean_loss(weight, bias, images, labels, batch_size)
    return [loss * len(labels), accuracy]


def mean_loss_dropped(weight, bias, images, labels, batch_size):
    whole = len(images) // batch_size * batch_size
    return mean_loss(weight, bias, images[:whole], labels[:whole], batch_size)


def mean_loss_cases(rng):
    cases = []
    for n, batch_size, d, k in ((6, 3, 3, 2), (9, 4, 4, 3), (13, 6, 5, 10), (5, 2, 2, 3)):
        images, labels = normal(rng, n, d), torch.from_numpy(rng.integers(0, k, n))
        weight, bias = normal(rng, k, d), normal(rng, k)
        logits = images @ weight.T + bias
        labels[:-1] = logits[:-1].argmax(dim=1)
        labels[-1] = logits[-1].argmin()  # the last batch is the worst, so that its weight counts
        cases.append([weight, bias, images, labels, batch_size])
    return cases


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


def adam_weights(weights, gradients, lr):
    """Return the weights after some steps of Adam, computed without torch.optim.

    For step t = 1, 2, … with gradient g (Kingma & Ba 2014, algorithm 1), beginning with m = v = 0:
    m ← 0.9 m + 0.1 g, v ← 0.999 v + 0.001 g², and the weights go down by
    lr · m̂ / (√v̂ + 1e-8), where m̂ = m / (1 − 0.9^t) and v̂ = v / (1 − 0.999^t).
    weights: (D,) float tensor; gradients: (T, D), one row a step; lr: float. Returns (D,).
    """
    weights, m, v = weights.clone(), 0.0, 0.0
    for t, g in enumerate(gradients, start=1):
        m = 0.9 * m + 0.1 * g
        v = 0.999 * v + 0.001 * g.square()
        weights = weights - lr * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
    return weights


def adam_uncorrected(weights, gradients, lr):
    m = v = 0.0
    for g in gradients:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.square()
        weights = weights - lr * m / (v.sqrt() + 1e-8)
    return weights


def adam_no_root(weights, gradients, lr):
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.square()
        weights = weights - lr * (m / (1 - 0.9**t)) / (v / (1 - 0.999**t) + 1e-8)
    return weights


def adam_one_correction(weights, gradients, lr):
    m = v = 0.0
    for g in gradients:
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.square()
        weights = weights - lr * (m / (1 - 0.9)) / ((v / (1 - 0.999)).sqrt() + 1e-8)
    return weights


def adam_sgd(weights, gradients, lr):
    return weights - lr * gradients.sum(dim=0)


def adam_cases(rng):
    cases = [[torch.zeros(2), torch.tensor([[3.0, -0.01], [-1.0, -0.03], [4.0, 0.02]]), 0.5]]
    for steps, size in ((1, 4), (5, 3), (20, 6)):
        cases.append([normal(rng, size), 3 * normal(rng, steps, size), float(rng.uniform(0.05, 0.3))])
    return cases


EXERCISES = [
    Exercise(
        "03.best_epoch",
        1,
        best_epoch,
        best_cases,
        {
            "looks at epochs that were never trained": best_in_hindsight,
            "keeps the weights of the last epoch": best_last,
            "counts all epochs without a new lowest loss, not those in a row": best_total,
            "compares each loss with the one before it, not with the lowest": best_neighbour,
            "keeps the later one of equal losses": best_ties,
        },
        (
            "Walk through the losses and remember where the lowest one so far was.",
            "Stop when the present epoch is `patience` epochs after that place.",
        ),
    ),
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
        "03.train_steps",
        1,
        train_steps,
        train_steps_cases,
        {
            "clears the gradients once, and then lets them add up": train_steps_accumulating,
            "steps with the gradient of the batch before": train_steps_late,
            "takes the gradient of the sum over the batch": train_steps_of_sum,
            "applies a softmax before the cross-entropy": train_steps_softmax,
            "goes uphill": train_steps_uphill,
            "leaves out the last batch where it is smaller": train_steps_whole_batches,
        },
        (
            "The first step is right, the second is not. What does a step leave behind for the next one?",
            "Print weight.grad after each backward(), and compare with the gradient of that batch alone.",
            "The lines of a step are all there. Is each of them run as often as it should be?",
        ),
        given=train_steps_accumulating,
    ),
    Exercise(
        "03.adam_weights",
        3,
        adam_weights,
        adam_cases,
        {
            "forgets to correct m and v for their start at zero": adam_uncorrected,
            "forgets the square root": adam_no_root,
            "corrects every step as if it were the first": adam_one_correction,
            "takes the steps of SGD": adam_sgd,
        },
        (
            "Keep m and v between the steps; t counts from 1.",
            "In the first step m̂ = g and v̂ = g², so each weight moves by almost exactly lr. A good test.",
        ),
        atol=1e-4,
    ),
    Exercise(
        "03.mean_loss",
        1,
        mean_loss,
        mean_loss_cases,
        {
            "gives every batch the same weight, however small it is": mean_loss_of_batches,
            "averages the losses and the accuracies of the batches": mean_loss_all_means,
            "counts the last batch as if it were full": mean_loss_full_batches,
            "returns the sum of the losses": mean_loss_sum,
            "leaves out the last batch where it is smaller": mean_loss_dropped,
        },
        (
            "In which cases is the loss right, in which wrong? Divide the number of images by batch_size.",
            "With four images in a batch and one in the last: how much does that one count in the mean?",
            'Sum over images instead, and divide once, at the end: reduction="sum", or loss · len(y).',
        ),
        given=mean_loss_of_batches,
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
