"""The course's models, one file a family. Every model maps images to logits, never to probabilities."""

from cnnlib.errors import ParameterError
from cnnlib.models.simple import MLP, SimpleCNN

MODELS = {"mlp": MLP, "simple_cnn": SimpleCNN}


def make_model(name, in_channels=1, num_classes=10):
    """Build a model by name, freshly initialised.

    Args:
        name: a key of `MODELS`.
        in_channels: channels of the images: 1 grey, 3 colour.
        num_classes: how many logits the model returns.

    Returns:
        torch.nn.Module: images (N, in_channels, 28, 28) float → logits (N, num_classes).

    Raises:
        ParameterError: an unknown name.
    """
    if name not in MODELS:
        raise ParameterError(f"there is no model {name!r}; choose one of {sorted(MODELS)}")
    return MODELS[name](in_channels=in_channels, num_classes=num_classes)
