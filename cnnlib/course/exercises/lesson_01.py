"""Exercises of lesson 01, what layers learn."""

# ruff: noqa: B023 - one of them hands out this mistake

import itertools
import math

import numpy as np
import torch
from torch import nn

from cnnlib.course.exercises import Exercise, normal


def favourite_patch(kernels, std):
    """Return the grey patch that excites each first-layer kernel most.

    A patch has one brightness for each pixel, from 0 (black) to 1 (white), the same in all three
    channels. The network subtracts a mean from each channel, divides it by `std`, multiplies by the
    kernel and adds up all products. kernels: (N, 3, k, k) float tensor; std: (3,) float tensor,
    each > 0. Returns (N, k, k) float.
    """
    weight = (kernels / std.view(3, 1, 1)).sum(dim=1)  # (N, k, k): what a pixel of brightness 1 adds
    return (weight > 0).float()


def favourite_unscaled(kernels, std):
    return favourite_patch(kernels, torch.ones(3))


def favourite_multiplied(kernels, std):
    return favourite_patch(kernels, 1 / std)


def favourite_picture(kernels, std):
    weight = (kernels / std.view(3, 1, 1)).sum(dim=1)
    return 0.5 + 0.5 * weight / weight.abs().amax(dim=(1, 2), keepdim=True)


def favourite_least(kernels, std):
    return 1 - favourite_patch(kernels, std)


def favourite_most_channels(kernels, std):
    return ((kernels > 0).sum(dim=1) > 1).float()


def favourite_cases(rng):
    cases = []
    for n, k in ((2, 3), (3, 11), (4, 7), (1, 5)):
        std = torch.tensor([0.2, 0.5, 1.3])[torch.from_numpy(rng.permutation(3))]
        cases.append([normal(rng, n, 3, k, k), std])
    return cases


def layer_means(images, weights):
    """Return the mean output of each linear layer, before its ReLU, caught with hooks.

    images: (N, features) float; weights: list of (out, in) float, one a layer. Returns a list of floats.
    """
    model, kept = nn.Sequential(), [torch.zeros(1)] * len(weights)
    for number, weight in enumerate(weights):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(weight, requires_grad=False)
        model.extend([layer, nn.ReLU(inplace=True)])

        def keep(module, inputs, output, number=number):
            kept[number] = output.clone()

        layer.register_forward_hook(keep)
    model(images)
    return [output.mean().item() for output in kept]


def layer_means_as_given(images, weights):
    model, kept = nn.Sequential(), [torch.zeros(1)] * len(weights)
    for number, weight in enumerate(weights):
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
        layer.weight = nn.Parameter(weight, requires_grad=False)
        model.extend([layer, nn.ReLU(inplace=True)])

        def keep(module, inputs, output):
            kept[number] = output

        layer.register_forward_hook(keep)
    model(images)
    return [output.mean().item() for output in kept]


def means_of_the_last(images, weights):
    return [0.0] * (len(weights) - 1) + layer_means(images, weights)[-1:]


def means_after_relu(images, weights):
    means = []
    for weight in weights:
        images = (images @ weight.T).relu()
        means.append(images.mean().item())
    return means


def means_without_relu(images, weights):
    means = []
    for weight in weights:
        images = images @ weight.T
        means.append(images.mean().item())
    return means


def means_cases(rng):
    cases = []
    for n, widths in ((4, [5, 6, 3]), (2, [3, 4, 4, 6]), (5, [7, 2, 5])):
        weights = [normal(rng, out, into) for into, out in itertools.pairwise(widths)]
        for weight in weights:
            weight[0] = weight[0].abs()  # of inputs >= 0 it makes an output that ReLU lets pass
            weight[1] = -weight[1].abs() - 0.1  # and one that it cuts off
        cases.append([normal(rng, n, widths[0]).abs() + 0.1, weights])
    return cases


def preferred_angles(responses):
    """Return the angle that each channel prefers, in degrees, 0 <= angle < 180.

    responses: (angles, channels) float tensor >= 0; row i holds the responses r to the angle
    i · 180 / angles degrees. The preferred angle φ is the one about which the responses balance:
    the sum of r · sin 2(θ − φ) over all angles θ is 0, and the sum of r · cos 2(θ − φ) is positive.
    Returns (channels,) float.
    """
    doubled = 2 * math.pi * torch.arange(len(responses)) / len(responses)
    across = (responses * doubled.cos()[:, None]).sum(dim=0)
    up = (responses * doubled.sin()[:, None]).sum(dim=0)
    return torch.rad2deg(torch.atan2(up, across)) / 2 % 180


def preferred_plain_mean(responses):
    angles = torch.arange(len(responses)) * 180 / len(responses)
    return (responses * angles[:, None]).sum(dim=0) / responses.sum(dim=0)


def preferred_strongest(responses):
    return responses.argmax(dim=0) * 180 / len(responses)


def preferred_doubled(responses):
    return 2 * preferred_angles(responses)


def preferred_not_doubled(responses):
    angles = math.pi * torch.arange(len(responses)) / len(responses)
    up, across = (responses * angles.sin()[:, None]).sum(0), (responses * angles.cos()[:, None]).sum(0)
    return torch.rad2deg(torch.atan2(up, across)) % 180


def preferred_negative(responses):
    angle = preferred_angles(responses)
    return torch.where(angle > 90, angle - 180, angle)


def preferred_slope(responses):
    doubled = 2 * math.pi * torch.arange(len(responses)) / len(responses)
    up, across = (responses * doubled.sin()[:, None]).sum(0), (responses * doubled.cos()[:, None]).sum(0)
    return torch.rad2deg(torch.atan(up / across)) / 2 % 180


def preferred_cases(rng):
    cases = []
    for angles, channels in ((12, 5), (24, 6), (8, 4), (9, 5)):
        peaks = torch.tensor([4.0, 40.0, 77.0, 120.0, 171.0, 100.0])[:channels]
        peaks = peaks + torch.from_numpy(rng.uniform(-2, 2, channels)).float()
        theta = torch.arange(angles)[:, None] * 180 / angles
        bump = torch.exp(2 * torch.cos(torch.deg2rad(2 * (theta - peaks))))
        noise = torch.from_numpy(rng.uniform(0.95, 1.05, (angles, channels))).float()
        cases.append([bump * noise])
    return cases


def peaks(maps, shape):
    """Return where in the photograph each map is largest: the middle of that place, in pixels.

    maps: (channels, h, w) float tensor, each map with one largest value; its places tile the
    photograph evenly. shape: list of two ints, the photograph's height and width; its upper left
    corner is (0, 0), its lower right corner is (height, width).
    Returns (channels, 2) float: the row and the column.
    """
    height, width = maps.shape[1:]
    index = maps.flatten(1).argmax(dim=1)
    places = torch.stack([index // width, index % width], dim=1)
    return (places + 0.5) * torch.tensor(shape) / torch.tensor([height, width])


def peaks_corner(maps, shape):
    return peaks(maps, shape) - 0.5 * torch.tensor(shape) / torch.tensor(maps.shape[1:])


def peaks_swapped(maps, shape):
    return peaks(maps, shape).flip(1)


def peaks_by_height(maps, shape):
    height, width = maps.shape[1:]
    index = maps.flatten(1).argmax(dim=1)
    places = torch.stack([index // height, index % height], dim=1)
    return (places + 0.5) * torch.tensor(shape) / torch.tensor([height, width])


def peaks_in_places(maps, shape):
    width = maps.shape[2]
    index = maps.flatten(1).argmax(dim=1)
    return torch.stack([index // width, index % width], dim=1).float()


def peaks_absolute(maps, shape):
    return peaks(maps.abs(), shape)


def peaks_cases(rng):
    cases = []
    for channels, h, w, shape in ((3, 7, 7, [224, 224]), (4, 5, 8, [100, 240]), (5, 6, 4, [90, 60])):
        values = rng.permuted(np.tile(np.arange(1.0, h * w + 1), (channels, 1)), axis=1)
        values[values == 1] = -2 * h * w  # the largest by size, and the smallest
        cases.append([torch.from_numpy(values).float().reshape(channels, h, w), shape])
    return cases


EXERCISES = [
    Exercise(
        "01.favourite_patch",
        2,
        favourite_patch,
        favourite_cases,
        {
            "gives every channel the same weight, as if it were not divided by std": favourite_unscaled,
            "multiplies by std where the network divides": favourite_multiplied,
            "draws the kernel as a picture, with shades of grey": favourite_picture,
            "finds the patch that excites the kernel least": favourite_least,
            "lets the three channels of a pixel vote": favourite_most_channels,
        },
        (
            "Take one pixel. Its brightness adds something to the sum: how much for each unit of brightness? "
            "Does it depend on the other pixels, or on the mean that is subtracted?",
            "A grey pixel of brightness b adds b · (w_red / std_red + w_green / std_green + w_blue / "
            "std_blue). If that bracket is positive, which b from 0 to 1 is best? If it is negative?",
        ),
    ),
    Exercise(
        "01.layer_means",
        2,
        layer_means,
        means_cases,
        {
            "is what was handed out": layer_means_as_given,
            "catches the last layer only": means_of_the_last,
            "tells what the layers' outputs are after ReLU": means_after_relu,
            "leaves the ReLU out of the model": means_without_relu,
        },
        (
            "Run it on two layers and look at what comes back. There are two faults, and the second shows "
            "only when the first is mended.",
            "`number` is looked up when the hook runs, not when it is made. What is it by then? Compare with "
            "the arguments of `keep` in the lesson.",
            "The second one: which operation after the layer works in place, and on whose numbers?",
        ),
        given=layer_means_as_given,
    ),
    Exercise(
        "01.preferred_angles",
        3,
        preferred_angles,
        preferred_cases,
        {
            "averages the angles as they stand, as if 179° and 1° were far apart": preferred_plain_mean,
            "takes the one angle with the strongest response": preferred_strongest,
            "returns twice the angle": preferred_doubled,
            "averages on the circle without doubling the angles": preferred_not_doubled,
            "returns negative angles": preferred_negative,
            "cannot tell an angle from the one at right angles to it": preferred_slope,
        },
        (
            "In degrees, 180 is 0 again; doubled, 360 is 0 again, as on a compass. On a compass, directions "
            "are averaged by adding arrows.",
            "Draw for each angle θ an arrow of length r in the direction 2θ, and add the arrows up. The sum "
            "points in the direction 2φ: write out sin 2(θ − φ) to see why.",
            "torch.atan2(y, x) gives an arrow's direction from −π to π. Halve it, turn it into degrees, and "
            "bring it into the range from 0 to 180 with %.",
        ),
    ),
    Exercise(
        "01.peaks",
        1,
        peaks,
        peaks_cases,
        {
            "returns the upper left corner of the place, not its middle": peaks_corner,
            "has row and column swapped": peaks_swapped,
            "divides by the map's height to find the row": peaks_by_height,
            "counts in places of the map, not in pixels": peaks_in_places,
            "looks for the largest size, negative values included": peaks_absolute,
        },
        (
            "argmax of a flattened map is one number: how many places come before it, row by row. Which "
            "number must it be divided by, so that the quotient is the row and the rest the column?",
            "A place covers height / h × width / w pixels, and its middle lies half a place further than its "
            "corner.",
        ),
    ),
]
