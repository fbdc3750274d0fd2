"""EfficientNet: blocks that expand, filter each channel by itself, and project back (MBConv)."""

import torch
import torch.nn.functional as F
from torch import nn

from cnnlib.ground.errors import ParameterError
from cnnlib.models.resnet import stage

STAGES = (  # out_channels, blocks, stride of the first block, kernel_size, expand_ratio
    (16, 1, 1, 3, 1),  # 112 pixels wide
    (24, 2, 2, 3, 6),  # 56
    (40, 2, 2, 5, 6),  # 28
    (80, 3, 2, 3, 6),  # 14
    (112, 3, 1, 5, 6),
    (192, 4, 2, 5, 6),  # 7
    (320, 1, 1, 3, 6),
)
"""The stages of B0 and of Lite0. Source: Tan & Le 2019, arXiv 1905.11946, table 1."""


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding: ⌈size / stride⌉ outputs, whatever the kernel.

    The padding depends on the input's size. Where its total is odd, the extra row goes to the bottom
    and the extra column to the right; PyTorch's `padding` is the same on all sides and cannot say that.

    Shape: images (N, in_channels, H, W) → (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).

    Source: TensorFlow's documentation of tf.nn, "Notes on padding".
    """

    def forward(self, images):
        pads = []
        for size, kernel, stride in zip(
            images.shape[:1:-1], self.kernel_size[::-1], self.stride[::-1], strict=True
        ):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]  # left, right, then top, bottom
        return super().forward(F.pad(images, pads) if any(pads) else images)


class ConvBlock(nn.Sequential):
    """Convolution without bias, batch norm, activation; nn.Identity as the activation leaves it linear."""

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        groups=1,
        activation=nn.SiLU,
        same_padding="torch",
        eps=1e-5,
    ):
        if same_padding not in ("torch", "tf"):
            raise ParameterError(f'same_padding is {same_padding!r}; it must be "torch" or "tf"')
        torch_style = same_padding == "torch"
        conv = (nn.Conv2d if torch_style else SameConv2d)(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2 if torch_style else 0,
            groups=groups,
            bias=False,  # batch norm subtracts the mean, and any bias with it
        )
        norm = nn.BatchNorm2d(out_channels, eps=eps)
        super().__init__(conv, norm, activation())


class SqueezeExcitation(nn.Module):
    """Scale each channel by a number between 0 and 1 that is computed from all channels' means.

    Args:
        channels: of the input and the output.
        squeezed_channels: of the layer between.
        activation: class of the layer between.

    Shape: (N, channels, H, W) → the same shape.

    Source: Hu et al. 2018, "Squeeze-and-Excitation Networks", arXiv 1709.01507, sec. 3.
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, channels, squeezed_channels, activation=nn.SiLU):
        super().__init__()
        self.reduce = nn.Conv2d(channels, squeezed_channels, kernel_size=1)
        self.activation = activation()
        self.restore = nn.Conv2d(squeezed_channels, channels, kernel_size=1)

    def forward(self, features):
        squeezed = features.mean(dim=(2, 3), keepdim=True)  # (N, channels, 1, 1)
        return features * torch.sigmoid(self.restore(self.activation(self.reduce(squeezed))))


class MBConv(nn.Module):
    """Mobile inverted bottleneck: expand, filter each channel by itself, (excite,) project.

    Where input and output have the same shape, the input is added to the output.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of the depthwise convolution, odd.
        stride: of the depthwise convolution.
        expand_ratio: how many times wider the middle is; 1 leaves the expansion out.
        se_ratio: squeezed channels of the squeeze-excitation as a share of `in_channels`; None
            leaves it out.
        activation: class of the activations; the projection has none: a linear bottleneck.
        same_padding: "torch" pads all sides alike, "tf" as TensorFlow does.
        eps: of the batch norms.

    Shape: (N, in_channels, H, W) → (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).

    Raises:
        ParameterError: an unknown `same_padding`.

    Source: Sandler et al. 2018, "MobileNetV2", arXiv 1801.04381, sec. 3; with squeeze-excitation, Tan
        et al. 2019, "MnasNet", arXiv 1807.11626, fig. 7.
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(
        self,
        in_channels,
        out_channels,
        kernel_size,
        stride=1,
        expand_ratio=6,
        se_ratio=0.25,
        activation=nn.SiLU,
        same_padding="torch",
        eps=1e-5,
    ):
        super().__init__()
        wide = in_channels * expand_ratio
        style = {"same_padding": same_padding, "eps": eps}
        self.expand = nn.Identity()
        if expand_ratio != 1:
            self.expand = ConvBlock(in_channels, wide, 1, activation=activation, **style)
        self.depthwise = ConvBlock(
            wide, wide, kernel_size, stride, groups=wide, activation=activation, **style
        )
        self.excite = nn.Identity()
        if se_ratio is not None:
            self.excite = SqueezeExcitation(wide, max(1, int(in_channels * se_ratio)), activation)
        self.project = ConvBlock(wide, out_channels, 1, activation=nn.Identity, **style)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, images):
        features = self.excite(self.depthwise(self.expand(images)))
        features = self.project(features)
        return images + features if self.residual else features


class FusedMBConv(nn.Module):
    """MBConv whose expansion and depthwise convolution are one ordinary convolution.

    Where input and output have the same shape, the input is added to the output. With an expand_ratio of 1
    there is nothing to project: the convolution goes straight to out_channels, with its activation.

    Args:
        in_channels, out_channels, kernel_size, stride, expand_ratio: see `MBConv`.
        eps: of the batch norms.

    Shape: (N, in_channels, H, W) → (N, out_channels, ⌈H / stride⌉, ⌈W / stride⌉).

    Source: Tan & Le 2021, "EfficientNetV2: Smaller Models and Faster Training", arXiv 2104.00298, figure 2;
        without squeeze-excitation, as in its table 4.
    First built in: notebooks/07_architectures_modern.ipynb
    """

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, expand_ratio=4, eps=1e-5):
        super().__init__()
        wide = in_channels * expand_ratio
        if expand_ratio == 1:
            self.expand = ConvBlock(in_channels, out_channels, kernel_size, stride, eps=eps)
            self.project = nn.Identity()
        else:
            self.expand = ConvBlock(in_channels, wide, kernel_size, stride, eps=eps)
            self.project = ConvBlock(wide, out_channels, 1, activation=nn.Identity, eps=eps)
        self.residual = stride == 1 and in_channels == out_channels

    def forward(self, images):
        features = self.project(self.expand(images))
        return images + features if self.residual else features


class EfficientNet(nn.Sequential):
    """Stem, sixteen MBConv blocks, head, mean over the positions, dropout, classifier.

    Args:
        in_channels: channels of the images.
        num_classes: how many logits it returns.
        se_ratio, activation, same_padding, eps: see `MBConv`.
        dropout: probability to zero a feature before the classifier.

    Shape: images (N, in_channels, H, W) → logits (N, num_classes).

    Source: Tan & Le 2019, "EfficientNet", arXiv 1905.11946, table 1. Its stochastic depth, which only
        matters in training, is left out.
    """

    def __init__(
        self,
        in_channels=3,
        num_classes=1000,
        se_ratio=0.25,
        activation=nn.SiLU,
        same_padding="torch",
        eps=1e-5,
        dropout=0.2,
    ):
        super().__init__()  # nn.Sequential runs its parts in the order in which they are added
        style = {"activation": activation, "same_padding": same_padding, "eps": eps}
        self.stem = ConvBlock(in_channels, 32, 3, stride=2, **style)  # 224 → 112
        self.blocks = nn.Sequential()  # 112 → 7
        channels = 32
        for out_channels, blocks, stride, kernel_size, expand_ratio in STAGES:
            options = {"kernel_size": kernel_size, "expand_ratio": expand_ratio, "se_ratio": se_ratio}
            self.blocks.extend(stage(MBConv, channels, out_channels, blocks, stride, **options, **style))
            channels = out_channels
        self.head = ConvBlock(channels, 1280, 1, **style)  # (N, 1280, 7, 7)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()  # (N, 1280)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(1280, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)


class EfficientNetB0(EfficientNet):
    """EfficientNet-B0: 5,288,548 parameters with 1,000 classes, as torchvision's.

    Shape: images (N, in_channels, H, W) → logits (N, num_classes).

    Source: Tan & Le 2019, arXiv 1905.11946, table 1.
    """

    def __init__(self, in_channels=3, num_classes=1000):
        super().__init__(in_channels, num_classes)


class EfficientNetLite0(EfficientNet):
    """EfficientNet-Lite0: B0 without squeeze-excitation and with ReLU6, made to be quantised.

    Shape: images (N, in_channels, H, W) → logits (N, num_classes).

    Source: Liu 2020, "Higher accuracy on vision models with EfficientNet-Lite", the TensorFlow Blog.
    """

    def __init__(self, in_channels=3, num_classes=1000):
        super().__init__(
            in_channels, num_classes, se_ratio=None, activation=nn.ReLU6, same_padding="tf", eps=1e-3
        )


def efficientnet_small(in_channels=1, num_classes=10):
    """Build an EfficientNet for 28 × 28 pixels: a stem, four MBConv blocks, a head.

    Returns:
        torch.nn.Sequential: images (N, in_channels, 28, 28) float → logits (N, num_classes).

    First built in: notebooks/07_architectures_modern.ipynb
    """
    return nn.Sequential(
        ConvBlock(in_channels, 16, 3, stride=2),  # (N, 16, 14, 14)
        MBConv(16, 16, 3, expand_ratio=1),
        MBConv(16, 24, 3, stride=2, expand_ratio=4),  # (N, 24, 7, 7)
        MBConv(24, 48, 3, stride=2, expand_ratio=4),  # (N, 48, 4, 4)
        MBConv(48, 48, 3, expand_ratio=4),
        ConvBlock(48, 192, 1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(192, num_classes),
    )
