"""How a network's weights begin."""

import copy

import torch
from torch import nn

from cnnlib.ground.errors import check_seed
from cnnlib.models.hooks import check_model


def kaiming(model):
    """Draw a model's convolution weights anew, so that ReLU neither swells nor fades the gradients.

    PyTorch's default suits shallow networks; a stack of ten or more layers without batch normalisation
    hardly begins to learn with it.

    Args:
        model: torch.nn.Module; biases and other layers are left alone.

    Returns:
        the same model.

    Raises:
        ParameterError: `model` is no module, or a class that is not built.

    Source: He et al. 2015, "Delving Deep into Rectifiers", arXiv 1502.01852, eq. 14.
    First built in: notebooks/06_architectures_classic.ipynb
    """
    check_model(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


def untrained(model, seed):
    """Return a copy of a model that has learned nothing: fresh random kernels and zero biases.

    What it shows as well as the trained model does was not learned.

    Args:
        model: torch.nn.Module; it stays as it is. Only its convolutions are drawn anew.
        seed: int; the generators of the program stay as they are.

    Returns:
        a model of the same class, on the same device.

    Raises:
        ParameterError: `model` is no module, or a class that is not built; `seed` is no seed.

    Source: He et al. 2015, "Delving Deep into Rectifiers", arXiv 1502.01852, eq. 10.
    First built in: notebooks/01_what_layers_learn.ipynb
    """
    check_model(model)
    seed, model = check_seed(seed), copy.deepcopy(model)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for module in model.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return model
