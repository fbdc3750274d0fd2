"""Look inside a network: feature maps, top patches, activation maximisation, Grad-CAM."""

from typing import NamedTuple

import torch
import torch.nn.functional as F

from cnnlib.ground.errors import ParameterError, check_list, check_positive, check_seed, check_whole
from cnnlib.ground.progress import progress_bar
from cnnlib.inside.geometry import Window, cut, geometry, receptive_field
from cnnlib.models.hooks import (
    Reached,
    as_tensor,
    check_images,
    check_logits,
    evaluation,
    find_layer,
    gradients,
    hooks,
    one_channel,
    run,
)

__all__ = ["feature_maps", "geometry", "grad_cam", "maximize_unit", "receptive_field", "top_patches"]

_COLORS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.0, -0.05], [0.27, -0.09, 0.03]]) / 0.4
"""Red, green, blue ← three planes that vary independently in natural images: light, red against blue, green
against both. A square root of ImageNet's colour covariance, from the code of Olah et al. 2017 (lucid)."""


def feature_maps(model, images, layers):
    """Return what some layers of a model compute, from one forward pass.

    The pass ends when all of them have run, so that shallow layers are cheap and take small images. The
    model runs in evaluation mode and without gradients; its mode is restored, and no hook stays
    behind, whatever happens. The maps are copies: a later layer that works in place cannot change them.

    Args:
        model: module that takes images (N, C, H, W) float 0–1.
        images: (N, C, H, W) uint8 0–255, or float 0–1, on any device.
        layers: names from `model.named_modules()`, such as ["features.3", "features.8"].

    Returns:
        dict from each name to its output, (N, channels, h, w) for a layer of feature maps, on the
        model's device.

    Raises:
        ParameterError: an unknown layer (the message offers close names), a layer that the forward pass
            does not use or that returns no tensor, images of another shape or dtype.

    First built in: notebooks/01_what_layers_learn.ipynb
    """
    if isinstance(layers, str):
        raise ParameterError(f"layers is the string {layers!r}; it must be a list of names, [{layers!r}]")
    modules = {name: find_layer(model, name) for name in check_list("layers", layers, "names of layers")}
    images = check_images(model, images)
    maps = {}

    def keep(name):
        def hook(module, inputs, output):
            if name not in maps:  # of a layer that runs several times, the first output
                maps[name] = as_tensor(name, output).clone()
            if len(maps) == len(modules):
                raise Reached

        return hook

    with (
        hooks(*((module, keep(name)) for name, module in modules.items())),
        evaluation(model),
        torch.no_grad(),
    ):
        run(model, images)
    for name in modules:
        if name not in maps:
            raise ParameterError(f"the forward pass does not use layer {name!r}, so it has no output")
    return {name: maps[name] for name in modules}  # in the order asked for


class Patch(NamedTuple):
    """The part of an image that a unit responded to.

    Attributes:
        image: index of the image in the list that was searched.
        value: the unit's activation.
        window: the unit's receptive field in that image, a `Window`.
        pixels: (3, size, size) float 0–1, the window's pixels; grey where it sticks out of the image.
    """

    image: int
    value: float
    window: Window
    pixels: torch.Tensor


def top_patches(model, images, units, count=9, *, progress=True):
    """Return the patches of images that excite some units most, cut to their receptive fields.

    Two patches of one image are at least half a receptive field apart, so that one strong response
    does not fill the list.

    Args:
        model: see `geometry`.
        images: list of images (1, C, H, W), uint8 or float 0–1, of any sizes.
        units: list of (layer, channel) pairs.
        count: patches a unit, at least 1; fewer come back where the images do not hold as many.
        progress: whether to show how far the search is and how long it may still take.

    Returns:
        dict from each unit to a list of Patch, the strongest first.

    Raises:
        ParameterError: an unknown layer, a channel out of range, a bad image, no images, a count that is no
            whole number from 1 on, or responses that are not finite.

    Source: Girshick et al. 2014, "Rich Feature Hierarchies", arXiv 1311.2524, sec. 3.1.
    First built in: notebooks/05_inside_a_network.ipynb
    """
    images = check_list("images", images, "images (1, C, H, W)")
    units = check_list("units", units, "(layer, channel) pairs, [('features.3', 0)]")
    check_whole("len(images)", len(images))
    count = check_whole("count", count)
    if not all(isinstance(unit, (tuple, list)) and len(unit) == 2 for unit in units):
        raise ParameterError(
            f"units are {units!r:.100}; they must be (layer, channel) pairs, [('features.3', 0)]"
        )
    where = {layer: geometry(model, layer) for layer, _ in units}
    found = {(layer, check_whole("channel", channel, least=0)): [] for layer, channel in units}
    with progress_bar(len(images), "image", show=progress) as bar:
        for index, image in enumerate(images):
            maps = feature_maps(model, image, list(where))
            if len(image) != 1:
                raise ParameterError(
                    f"image {index} has {len(image)} images; give each by itself: images.split(1)"
                )
            for (layer, channel), patches in found.items():
                values = one_channel(layer, maps[layer], channel)[0].cpu()  # (h, w)
                if not values.isfinite().all():
                    raise ParameterError(
                        f"channel {channel} of layer {layer!r} responds to image {index} with NaN or an "
                        "infinite number; look for where the model's training diverged"
                    )
                patches += _peaks(index, values, where[layer], image, count)
            bar.update()
    return {unit: sorted(patches, key=lambda patch: -patch.value)[:count] for unit, patches in found.items()}


def _peaks(index, values, place, image, count):
    """Return the strongest patches of one image, none nearer than half a receptive field to another."""
    left, patches = values.clone(), []
    apart = max(1, -(-place.size // (2 * place.jump)))  # in units of the map
    while len(patches) < count and (value := left.max().item()) > -torch.inf:
        row, column = divmod(left.argmax().item(), left.shape[1])
        window = place.window(row, column)
        patches.append(Patch(index, value, window, cut(image, window)))
        rows, columns = (slice(max(0, at - apart + 1), at + apart) for at in (row, column))
        left[rows, columns] = -torch.inf
    return patches


def maximize_unit(model, layer, channel, size=96, steps=64, lr=0.05, seed=0, *, progress=True):
    """Find an image that excites a channel, by gradient ascent from noise.

    The image is kept natural by the means of Olah et al.: it is written as a sum of waves, the fine ones
    weighted down; its colours vary together as in natural images; and it is shifted by a few random
    pixels before each step. Its values stay between 0 and 1 through a sigmoid.

    Args:
        model: module that takes images (N, 3, H, W) float 0–1.
        layer: name from `model.named_modules()`; best a convolution, for where a ReLU is off it passes
            no gradient.
        channel: which of the layer's channels; its mean over all positions is raised.
        size: pixels a side of the image.
        steps: updates with Adam, at least 1.
        lr: Adam's learning rate, finite and above 0.
        seed: int from 0 on that decides the first image and the shifts.
        progress: whether to show how far the ascent is and how long it may still take.

    Returns:
        (image, values): (1, 3, size, size) float 0–1 on the CPU, and the channel's mean activation
        before each step, `steps` floats.

    Raises:
        ParameterError: an unknown layer, a channel out of range or without gradient, a number outside
            its range, or a model that was made in inference mode.

    Source: Erhan et al. 2009, "Visualizing Higher-Layer Features of a Deep Network"; Olah et al. 2017,
        "Feature Visualization", Distill, doi 10.23915/distill.00007.
    First built in: notebooks/05_inside_a_network.ipynb
    """
    size, steps = check_whole("size", size), check_whole("steps", steps)
    seed = check_seed(seed)
    check_positive("lr", lr)
    module = find_layer(model, layer)
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    random, reached, values = torch.Generator().manual_seed(seed), [], []

    def stop_here(module, inputs, output):
        reached.append(one_channel(layer, as_tensor(layer, output), channel).mean())
        raise Reached

    def picture():
        planes = torch.fft.irfft2(torch.view_as_complex(waves) * weight, s=(size, size))  # (3, size, size)
        return torch.sigmoid(torch.einsum("rp,phw->rhw", colors, planes)).unsqueeze(0)

    with (
        gradients(model),
        hooks((module, stop_here)),
        evaluation(model),
        progress_bar(steps, "step", show=progress) as bar,
    ):
        rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.rfftfreq(size)
        frequency = (rows**2 + columns**2).sqrt()  # (size, size // 2 + 1)
        weight = size / frequency.clamp(min=1 / size)
        waves = 0.01 * torch.randn(3, *weight.shape, 2, generator=random)
        waves, weight, colors = waves.to(device).requires_grad_(), weight.to(device), _COLORS.to(device)
        optimizer = torch.optim.Adam([waves], lr=lr)
        for _ in range(steps):
            shift = torch.randint(-4, 5, (2,), generator=random).tolist()
            run(model, picture().roll(shift, dims=(2, 3)))
            if not reached:
                raise ParameterError(f"the forward pass does not use layer {layer!r}, so it has no output")
            optimizer.zero_grad()
            (-reached[-1]).backward(inputs=[waves])
            if not waves.grad.any():
                raise ParameterError(
                    f"channel {channel} of layer {layer!r} has no gradient: it is off for this image. Choose "
                    "the layer before its ReLU, or another seed"
                )
            optimizer.step()
            values.append(reached.pop().item())
            bar.update()
        return picture().detach().cpu(), values


def grad_cam(model, images, layer, targets=None):
    """Return where a class's evidence lies in images: Grad-CAM.

    The maps of a layer are added up, each weighted by the mean gradient of the class's logit with
    respect to it; what speaks against the class is cut off by a ReLU.

    Args:
        model: images (N, C, H, W) float 0–1 → logits (N, K).
        images: (N, C, H, W) uint8 or float 0–1.
        layer: name from `model.named_modules()`; most often the last layer of feature maps.
        targets: N class numbers, one for all images, or None for the class that the model predicts.

    Returns:
        (N, H, W) float >= 0 on the CPU, brought to the images' size by bilinear interpolation. The
        scale is that of the logits, so that images can be compared.

    Raises:
        ParameterError: an unknown layer, one that returns no feature maps or that the logits do not
            depend on, targets out of range, images of another shape or dtype, a model that was made in
            inference mode or returns no logits, or maps that are not finite.

    Source: Selvaraju et al. 2017, "Grad-CAM", arXiv 1610.02391, eq. 1 and 2.
    First built in: notebooks/05_inside_a_network.ipynb
    """
    module = find_layer(model, layer)
    kept = []

    def cut_graph(module, inputs, output):
        kept.append(one_channel(layer, as_tensor(layer, output)).detach().requires_grad_())
        return kept[-1].clone()  # the rest of the model may work in place on a copy, not on a leaf

    with gradients(model), hooks((module, cut_graph)), evaluation(model):
        images = check_images(model, images).clone()  # autograd cannot keep images made in inference mode
        logits = run(model, images)
        check_logits(logits, images)
        if logits.ndim != 2:
            raise ParameterError(f"the model returns {tuple(logits.shape)}; Grad-CAM needs (N, K) logits")
        chosen = logits.argmax(dim=1) if targets is None else _targets(targets, logits)
        score = logits.gather(1, chosen.unsqueeze(1)).sum()
        if len(kept) != 1 or not score.requires_grad:
            raise ParameterError(
                f"the logits do not depend on one output of layer {layer!r}; choose another layer"
            )
        (gradient,) = torch.autograd.grad(score, kept)
    weights = gradient.mean(dim=(2, 3), keepdim=True)  # (N, channels, 1, 1), eq. 1
    cam = torch.relu((weights * kept[0].detach()).sum(dim=1, keepdim=True))  # (N, 1, h, w), eq. 2
    if not cam.isfinite().all():
        raise ParameterError(
            f"the maps of layer {layer!r} or their gradients hold NaN or an infinite number; look for where "
            "the model's training diverged"
        )
    return F.interpolate(cam, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0].cpu()


def _targets(targets, logits):
    try:
        chosen = torch.as_tensor(targets, device=logits.device)
    except (TypeError, ValueError):  # words, or lists of several lengths
        chosen = logits  # floats are none
    good = not chosen.is_floating_point() and chosen.dtype != torch.bool
    if not good or chosen.ndim > 1 or chosen.numel() not in (1, len(logits)):
        raise ParameterError(
            f"targets are {targets!r}; give one class number, or one for each of {len(logits)} images"
        )
    if chosen.min() < 0 or chosen.max() >= logits.shape[1]:
        raise ParameterError(f"targets are {targets!r}; the model has classes 0 to {logits.shape[1] - 1}")
    return chosen.long().expand(len(logits)).clone()  # as for the images
