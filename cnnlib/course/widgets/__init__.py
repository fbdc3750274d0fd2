"""Things to play with in a lesson: draw a digit, take a kernel or a network apart, walk through VGG16's maps.

Each is alive in JupyterLab and on the pages of the book, which have no kernel, and a figure everywhere else.
anywidget and what it needs are imported when the first of these functions is called.
"""

__all__ = ["draw_digit", "explore_features", "explore_kernel", "explore_network"]


def draw_digit(model, layers=None):
    """Draw a digit and watch the model's logits, probabilities and feature maps as you draw.

    What is drawn is brought into the form of MNIST's digits first; see `likeMnist` in `browser/ink.js`. A
    chain of layers that `chain.export` knows is computed in the browser, any other model by the kernel. Train
    on, and the same widget shows what has changed, from the next stroke on.

    Args:
        model: module, images (N, 1, 28, 28) float 0–1 → logits (N, 10), on any device.
        layers: names of layers whose maps are shown, from `model.named_modules()`; default: the model's
            first convolutions, four at most.

    Returns:
        DigitReader: shown as a widget when it is the last line of a cell.

    Raises:
        ParameterError: the model takes or returns other shapes, or has no such layer.

    Source: LeCun et al. 1998, "Gradient-Based Learning Applied to Document Recognition", sec. III-A
        (how the digits were centred and scaled).
    """
    from cnnlib.course.widgets.digit import DigitReader

    return DigitReader(model, layers)


def explore_kernel(image="camera", kernel="vertical edges"):
    """Change the numbers of a 3 × 3 kernel and see what becomes of a photograph, down to one value's sum.

    Args:
        image: one of `cnnlib.data.photo_names()`, the path of an image file, or a tensor
            (1, 1 or 3, H, W), uint8 0–255 or float 0–1. Colours are averaged to grey. Photographs are cut to
            a square and brought to 160 × 160 pixels; a tensor stays as it is, up to 512 pixels a side.
        kernel: the name of a preset, or 3 × 3 numbers.

    Returns:
        KernelExplorer: shown as a widget when it is the last line of a cell.

    Raises:
        DataError: there is no such photograph, or the file cannot be read as an image.
        ParameterError: a tensor of another shape, an unknown preset, or no 3 × 3 numbers.
    """
    from cnnlib.course.widgets.kernel import KernelExplorer

    return KernelExplorer(image, kernel)


def explore_features(model=None, photos=None, layers=None):
    """Choose a photograph, a layer and a channel: see its map, and the pixels that a unit of it looks at.

    Args:
        model: nested `nn.Sequential`s, images (N, 3, H, W) float 0–1 → maps, on any device; default: VGG16
            with its ImageNet weights.
        photos: names from `cnnlib.data.photo_names()` or paths of image files; default: all of the course's.
        layers: names from `model.named_modules()`, or a dict from what is shown to such a name;
            default: the ends of VGG16's five blocks, or another model's convolutions.

    Returns:
        FeatureExplorer: shown as a widget when it is the last line of a cell.

    Raises:
        DataError: there is no such photograph, or a file cannot be read as an image.
        ParameterError: an unknown layer, one that returns no maps, or a model that is no such chain.
    """
    from cnnlib.course.widgets.features import FeatureExplorer

    return FeatureExplorer(model, photos, layers)


def explore_network(model):
    """Take a small network apart: from the maps of all its layers down to the sum behind one value.

    Click a value, or choose it with the arrow keys: of a convolution and a linear layer it shows window,
    kernel and products of each input map, their sums and the bias; of pooling the values in the window; of
    softmax the exponentials. Each number leads on to the value it stands for, down to the pixels.

    Args:
        model: a chain of layers, images (N, 1, 28, 28) float 0–1 → logits (N, 10): `Normalize`, `nn.Conv2d`,
            `nn.BatchNorm2d`, `nn.MaxPool2d`, `nn.AvgPool2d`, `nn.ReLU`, `nn.Linear` and what has no effect.

    Returns:
        NetworkExplorer: shown as a widget when it is the last line of a cell.

    Raises:
        ParameterError: the model is no such chain, or takes or returns other shapes.

    Source: in the manner of Wang et al. 2020, "CNN Explainer", IEEE TVCG 27(2), arXiv 2004.15004.
    """
    from cnnlib.course.widgets.network import NetworkExplorer

    return NetworkExplorer(model)
