"""The two small models that the first lessons train: a CNN and, to compare it with, an MLP."""

import torch
from torch import nn


class SimpleCNN(nn.Module):
    """Two convolutions with pooling, then one linear layer: 28,938 parameters on MNIST, 11,274 with width=8.

    Shape: images (N, in_channels, 28, 28) float → logits (N, num_classes).

    First built in: notebooks/03_mnist_cnn.ipynb
    """

    def __init__(self, in_channels=1, num_classes=10, width=16):
        super().__init__()
        self.block1 = nn.Sequential(
            nn.Conv2d(in_channels, width, kernel_size=5, padding=2),  # (N, width, 28, 28)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, width, 14, 14)
        )
        self.block2 = nn.Sequential(
            nn.Conv2d(width, 2 * width, kernel_size=5, padding=2),  # (N, 2 · width, 14, 14)
            nn.ReLU(),
            nn.MaxPool2d(2),  # (N, 2 · width, 7, 7)
        )
        self.classifier = nn.Linear(2 * width * 7 * 7, num_classes)

    def forward(self, images):
        features = self.block2(self.block1(images))
        return self.classifier(torch.flatten(features, start_dim=1))


class MLP(nn.Module):
    """One hidden layer of 256 units: 203,530 parameters on MNIST.

    Shape: images (N, in_channels, 28, 28) float → logits (N, num_classes).
    """

    def __init__(self, in_channels=1, num_classes=10):
        super().__init__()
        self.hidden = nn.Linear(in_channels * 28 * 28, 256)
        self.classifier = nn.Linear(256, num_classes)

    def forward(self, images):
        return self.classifier(torch.relu(self.hidden(torch.flatten(images, start_dim=1))))
