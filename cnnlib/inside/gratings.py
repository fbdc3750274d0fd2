"""Gratings, the stimulus of vision science: which orientation a unit prefers, and how sharply.

curves = tuning(model, "features.1", size=35, periods=[4.0, 8.0])  # (angles, channels)
selectivity(curves)  # (channels,): 0 for any orientation alike, 1 for one alone
"""

import math

import torch

from cnnlib.ground.errors import ParameterError, check_list, check_positive, check_whole
from cnnlib.inside.features import feature_maps


def gratings(size, periods, angles=12, phases=4):
    """Return pictures of grey sine waves.

    Args:
        size: height and width in pixels, int >= 1.
        periods: distances from one crest to the next, in pixels, each > 0.
        angles: number of orientations, evenly over half a turn; the first one varies along a row.
        phases: number of places of the crest, evenly over a period.

    Returns:
        (periods, angles, phases, 3, size, size) float, 0 to 1; the three channels are equal.

    Raises:
        ParameterError: a number outside these ranges, or no period.

    First built in: notebooks/01_what_layers_learn.ipynb
    """
    counts = {"size": size, "angles": angles, "phases": phases}
    size, angles, phases = (check_whole(name, value) for name, value in counts.items())
    periods = check_list("periods", periods, "numbers of pixels above 0, such as [4.0, 8.0]")
    try:
        lengths = [check_positive("a period", period) for period in periods]
    except ParameterError:
        lengths = []
    if not lengths:
        raise ParameterError(
            f"periods is {periods}; it must hold numbers of pixels above 0, such as [4.0, 8.0]"
        )
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    theta = torch.arange(angles) * math.pi / angles
    along = columns * theta.cos().view(-1, 1, 1) + rows * theta.sin().view(-1, 1, 1)
    period = torch.tensor(lengths).view(-1, 1, 1, 1, 1)
    phase = torch.arange(phases).view(-1, 1, 1) / phases
    waves = 0.5 + 0.5 * torch.cos(2 * math.pi * (along.unsqueeze(1) / period + phase))
    return waves.unsqueeze(3).expand(-1, -1, -1, 3, -1, -1)


def tuning(model, layer, size, periods, angles=12):
    """Return each channel's best response to each orientation, at the period that it likes best.

    Args:
        model: module that takes images (N, 3, H, W) float 0–1.
        layer: name from `model.named_modules()` whose output is maps of at least 3 × 3; responses are
            taken from the middle 3 × 3 units, away from the border.
        size, periods: of the gratings, in pixels.
        angles: number of orientations, evenly over half a turn.

    Returns:
        (angles, channels) float, on the CPU.

    Raises:
        ParameterError: maps smaller than 3 × 3; besides, as `gratings` and `feature_maps` raise it.

    First built in: notebooks/01_what_layers_learn.ipynb
    """
    images = gratings(size, periods, angles)
    maps = feature_maps(model, images.flatten(0, 2), [layer])[layer].cpu()
    if maps.ndim != 4 or min(maps.shape[2:]) < 3:
        raise ParameterError(
            f"layer {layer!r} returns {tuple(maps.shape)} for gratings of {size} pixels; its maps must be of "
            "3 × 3 units or more: take larger gratings, or a layer before"
        )
    rows, columns = (slice(length // 2 - 1, length // 2 + 2) for length in maps.shape[2:])
    best = maps[:, :, rows, columns].amax(dim=(2, 3)).view(*images.shape[:3], -1).amax(dim=2)
    favourite = best.amax(dim=1).argmax(dim=0)  # each channel's period
    return best[favourite, :, torch.arange(best.shape[2])].T


def selectivity(responses):
    """Return how sharply each channel prefers one orientation: 0 not at all, 1 for one alone.

    Args:
        responses: (angles, channels) float >= 0, to orientations evenly over half a turn.

    Returns:
        (channels,) float; 0 for a channel that responds to nothing.

    Source: Ringach, Shapley & Hawken 2002, J. Neurosci. 22: 1 − circular variance.
    First built in: notebooks/01_what_layers_learn.ipynb
    """
    turn = torch.exp(2j * math.pi * torch.arange(len(responses)) / len(responses))
    return (responses * turn[:, None]).sum(dim=0).abs() / responses.sum(dim=0).clamp(min=1e-9)
