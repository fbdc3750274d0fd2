"""Exercises of lesson 05, inside a trained network."""

import torch
import torch.nn.functional as F

from cnnlib.course.exercises import Exercise, normal


def top_places(maps, count):
    """Return where the strongest responses of each channel are, in all images together.

    maps: (N, C, H, W) float tensor without ties; count: int ≤ N · H · W.
    Returns (C, count, 3) int64: the image, the row and the column of each response, the strongest
    response first.
    """
    width = maps.shape[3]
    places = maps.shape[2] * width
    flat = maps.transpose(0, 1).flatten(1)  # (C, N · H · W)
    index = flat.topk(count, dim=1).indices
    return torch.stack([index // places, index % places // width, index % width], dim=2)


def top_swapped(maps, count):
    return top_places(maps, count)[:, :, [0, 2, 1]]


def top_absolute(maps, count):
    return top_places(maps.abs(), count)


def top_ascending(maps, count):
    return top_places(maps, count).flip(1)


def top_one_an_image(maps, count):
    n, w = len(maps), maps.shape[3]
    value, index = maps.flatten(2).max(dim=2)  # (N, C)
    order = value.T.argsort(dim=1, descending=True)[:, : min(count, n)]
    index = index.T.gather(1, order)
    found = torch.stack([order, index // w, index % w], dim=2)
    return found.repeat(1, -(-count // found.shape[1]), 1)[:, :count]


def top_cases(rng):
    cases = [[torch.arange(-16.0, 16.0).reshape(2, 2, 2, 4), 6]]
    for n, c, h, w, count in ((3, 2, 4, 5, 7), (5, 4, 3, 2, 9), (2, 3, 6, 4, 3)):
        values = torch.from_numpy(rng.permutation(n * c * h * w)).float() - n * c * h * w / 2
        cases.append([values.reshape(n, c, h, w), count])
    return [*cases, [normal(rng, 1, 1, 1, 1), 1]]


def concept_iou(maps, masks, share):
    """Return how well each channel marks a concept, as network dissection does (Bau et al. 2017).

    A channel marks its round(share · N · H · W) strongest places of all images together. Return
    how many places are marked and belong to the concept, divided by how many are marked or belong
    to it, or both. maps: (N, C, H, W) float tensor without ties; masks: (N, H, W) bool tensor,
    True where the concept is; share: float, 0 < share < 1. Returns (C,) float32.
    """
    flat = maps.transpose(0, 1).flatten(1)  # (C, N · H · W)
    count = round(share * flat.shape[1])
    marked = torch.zeros_like(flat, dtype=torch.bool)
    marked.scatter_(1, flat.topk(count, dim=1).indices, True)
    concept = masks.flatten()
    return (marked & concept).sum(dim=1) / (marked | concept).sum(dim=1)


def iou_recall(maps, masks, share):
    flat = maps.transpose(0, 1).flatten(1)
    count = round(share * flat.shape[1])
    inside = masks.flatten()[flat.topk(count, dim=1).indices].sum(dim=1)
    return inside / masks.sum().clamp(min=1)


def iou_each_image(maps, masks, share):
    flat = maps.flatten(2)  # (N, C, H · W)
    count = round(share * flat.shape[2])
    marked = torch.zeros_like(flat, dtype=torch.bool)
    marked.scatter_(2, flat.topk(count, dim=2).indices, True)
    concept = masks.flatten(1)[:, None]
    return (marked & concept).sum(dim=(0, 2)) / (marked | concept).sum(dim=(0, 2))


def iou_common_threshold(maps, masks, share):
    count = round(share * maps.numel())
    marked = (maps >= maps.flatten().topk(count).values[-1]).transpose(0, 1).flatten(1)
    concept = masks.flatten()
    return (marked & concept).sum(dim=1) / (marked | concept).sum(dim=1)


def iou_counted_twice(maps, masks, share):
    flat = maps.transpose(0, 1).flatten(1)
    count = round(share * flat.shape[1])
    inside = masks.flatten()[flat.topk(count, dim=1).indices].sum(dim=1)
    return inside / (count + masks.sum())


def iou_cases(rng):
    cases = []
    for n, c, h, w, share in ((4, 3, 6, 6, 0.2), (3, 5, 4, 7, 0.3), (6, 2, 5, 5, 0.1)):
        masks = torch.zeros(n, h, w, dtype=torch.bool)
        masks[: n - 1, 1:4, : int(rng.integers(2, w))] = True  # the last image lacks the concept
        loudness = torch.linspace(1, 3, c)[:, None, None]
        cases.append([loudness * (normal(rng, n, c, h, w) + 1.5 * masks[:, None]), masks, share])
    return cases


def hires_cam(maps, gradients):
    """Return HiResCAM (Draelos & Carin 2020): where the maps speak for a class, place by place.

    At each place, add up map × gradient over the channels, and set what is negative to 0. Then
    divide each image's result by its largest value; an image without any positive place stays 0.
    maps, gradients: (N, C, H, W) float tensors, a layer's maps and the gradients of the class's
    logit with respect to them. Returns (N, H, W).
    """
    speaks = (maps * gradients).sum(dim=1).relu()
    largest = speaks.amax(dim=(1, 2), keepdim=True)
    return torch.where(largest > 0, speaks / largest.where(largest > 0, 1.0), 0.0)


def hires_grad_cam(maps, gradients):
    mean = gradients.mean(dim=(2, 3), keepdim=True).expand_as(gradients)
    return hires_cam(maps, mean)


def hires_absolute(maps, gradients):
    speaks = (maps * gradients).sum(dim=1).abs()
    return speaks / speaks.amax(dim=(1, 2), keepdim=True)


def hires_early_relu(maps, gradients):
    return hires_cam((maps * gradients).relu(), torch.ones_like(gradients))


def hires_batch(maps, gradients):
    speaks = (maps * gradients).sum(dim=1).relu()
    return speaks / speaks.max()


def hires_nan(maps, gradients):
    speaks = (maps * gradients).sum(dim=1).relu()
    return speaks / speaks.amax(dim=(1, 2), keepdim=True)


def hires_cases(rng):
    cases = []
    for n, c, h, w in ((3, 4, 5, 5), (2, 2, 3, 6)):
        loudness = torch.tensor([1.0, 5.0, 2.0])[:n, None, None, None]
        cases.append([normal(rng, n, c, h, w).relu() + 0.1, loudness * normal(rng, n, c, h, w)])
    maps, gradients = normal(rng, 2, 3, 4, 4).abs() + 0.1, normal(rng, 2, 3, 4, 4)
    gradients[0] = -gradients[0].abs()  # nowhere speaks this image for the class
    return [*cases, [maps, gradients]]


def total_variation(images):
    """Return how rough each image is: the sum of |difference| over all pairs of neighbouring pixels.

    Neighbours are two pixels of the same channel, side by side or one above the other; each pair
    counts once, and there is nothing beyond the frame.
    images: (N, C, H, W) float tensor. Returns (N,).
    """
    down = images.diff(dim=2).abs().sum(dim=(1, 2, 3))
    right = images.diff(dim=3).abs().sum(dim=(1, 2, 3))
    return down + right


def variation_around(images):
    return sum((images - images.roll(1, dims=d)).abs().sum(dim=(1, 2, 3)) for d in (2, 3))


def variation_squared(images):
    return sum(images.diff(dim=d).square().sum(dim=(1, 2, 3)) for d in (2, 3))


def variation_one_way(images):
    return images.diff(dim=3).abs().sum(dim=(1, 2, 3))


def variation_mean(images):
    return sum(images.diff(dim=d).abs().mean(dim=(1, 2, 3)) for d in (2, 3))


def variation_padded(images):
    wide = F.pad(images, (1, 1, 1, 1))
    return sum(wide.diff(dim=d).abs().sum(dim=(1, 2, 3)) for d in (2, 3))


def variation_cases(rng):
    return [
        [normal(rng, 2, 3, 5, 5) + 0.5],
        [normal(rng, 3, 1, 4, 7) + 0.5],
        [normal(rng, 1, 2, 1, 6) + 0.5],
        [torch.full((2, 1, 3, 3), 0.7)],
    ]


EXERCISES = [
    Exercise(
        "05.concept_iou",
        3,
        concept_iou,
        iou_cases,
        {
            "divides by the size of the concept alone": iou_recall,
            "marks the strongest places of each image": iou_each_image,
            "has one threshold for all channels": iou_common_threshold,
            "counts what is marked and belongs to the concept twice below the line": iou_counted_twice,
        },
        (
            "maps.transpose(0, 1).flatten(1) has a row for each channel, with all places of all images.",
            "topk gives the places to mark; masks.flatten() has the same order of places.",
            "Intersection: marked & concept. Union: marked | concept. Sum both over the places.",
        ),
    ),
    Exercise(
        "05.top_places",
        2,
        top_places,
        top_cases,
        {
            "confuses rows with columns": top_swapped,
            "takes strongly negative responses for strong ones": top_absolute,
            "puts the weakest of them first": top_ascending,
            "takes no more than one place of an image": top_one_an_image,
        },
        (
            "Bring the channels to the front and flatten the rest: one row of N · H · W values a channel.",
            "topk gives positions in that row. Integer division and remainder take them apart again.",
        ),
    ),
    Exercise(
        "05.total_variation",
        1,
        total_variation,
        variation_cases,
        {
            "takes the last pixel of a row for a neighbour of the first": variation_around,
            "squares the differences": variation_squared,
            "looks at pixels side by side only": variation_one_way,
            "takes the mean over the pairs": variation_mean,
            "surrounds the image with zeros": variation_padded,
        },
        (
            "images[:, :, 1:] − images[:, :, :-1] are the differences of pixels one above the other.",
            "Sum the absolute differences over channels, rows and columns, but not over the images.",
        ),
    ),
    Exercise(
        "05.hires_cam",
        2,
        hires_cam,
        hires_cases,
        {
            "averages the gradients over the places first, as Grad-CAM does": hires_grad_cam,
            "takes what speaks against the class for what speaks for it": hires_absolute,
            "drops the negative parts before adding up the channels": hires_early_relu,
            "divides by the largest value of the whole batch": hires_batch,
            "divides by zero": hires_nan,
        },
        (
            "Multiply first, sum over the channels, then relu: in this order.",
            "amax(dim=(1, 2), keepdim=True) is each image's largest value. What if it is 0?",
        ),
    ),
]
