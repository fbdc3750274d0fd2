"""How a network's weights begin."""

from torch import nn


def kaiming(model):
    """Draw a model's convolution weights anew, so that ReLU neither swells nor fades the gradients.

    PyTorch's default suits shallow networks; a stack of ten or more layers without batch normalisation
    hardly begins to learn with it.

    Args:
        model: torch.nn.Module; biases and other layers are left alone.

    Returns:
        the same model.

    Source: He et al. 2015, "Delving Deep into Rectifiers", arXiv 1502.01852, eq. 14.
    First built in: notebooks/05_architectures_classic.ipynb
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model
