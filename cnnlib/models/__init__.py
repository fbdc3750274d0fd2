"""The course's models, one file a family. Every model maps images to logits, never to probabilities."""

from cnnlib.ground.errors import ParameterError, check_whole
from cnnlib.models.alexnet import AlexNet, alexnet_2012, alexnet_small
from cnnlib.models.efficientnet import EfficientNetB0, efficientnet_small
from cnnlib.models.fast import fast_cnn, fast_cnn_deep
from cnnlib.models.inception import GoogLeNet, inception_small
from cnnlib.models.lenet import LeNet5, LeNet5Paper
from cnnlib.models.resnet import resnet18, resnet50, resnet_small, resnext50_32x4d, resnext_small
from cnnlib.models.simple import MLP, SimpleCNN
from cnnlib.models.vgg import vgg11, vgg16, vgg16_bn, vgg_small, vgg_small_bn

MODELS = {
    "mlp": MLP,
    "simple_cnn": SimpleCNN,
    "fast_cnn": fast_cnn,
    "fast_cnn_deep": fast_cnn_deep,
    "lenet5_paper": LeNet5Paper,
    "lenet5": LeNet5,
    "alexnet_small": alexnet_small,
    "vgg_small": vgg_small,
    "vgg_small_bn": vgg_small_bn,
    "inception_small": inception_small,
    "resnet_small": resnet_small,
    "resnext_small": resnext_small,
    "efficientnet_small": efficientnet_small,
}
"""Models for images of 28 × 28 pixels."""
IMAGENET_MODELS = {
    "alexnet_2012": alexnet_2012,
    "alexnet": AlexNet,
    "vgg11": vgg11,
    "vgg16": vgg16,
    "vgg16_bn": vgg16_bn,
    "googlenet": GoogLeNet,
    "resnet18": resnet18,
    "resnet50": resnet50,
    "resnext50_32x4d": resnext50_32x4d,
    "efficientnet_b0": EfficientNetB0,
}
"""The published sizes, for 224 × 224 pixels (alexnet_2012: 227 × 227). The names are torchvision's."""


def make_model(name, in_channels=1, num_classes=10):
    """Build a model by name, freshly initialised.

    Args:
        name: a key of `MODELS` or `IMAGENET_MODELS`.
        in_channels: channels of the images: 1 grey, 3 colour.
        num_classes: how many logits the model returns.

    Returns:
        torch.nn.Module: images (N, in_channels, H, W) float → logits (N, num_classes).

    Raises:
        ParameterError: an unknown name, or a number that is no whole one from 1 on.
    """
    models = MODELS | IMAGENET_MODELS
    if name not in list(models):
        raise ParameterError(f"there is no model {name!r}; choose one of {sorted(models)}")
    in_channels = check_whole("in_channels", in_channels)
    num_classes = check_whole("num_classes", num_classes)
    return models[name](in_channels=in_channels, num_classes=num_classes)
