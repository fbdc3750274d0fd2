"""Looking inside a network: its feature maps, what a unit sees and prefers, what a training step meets."""

from cnnlib.inside.features import feature_maps, grad_cam, maximize_unit, top_patches
from cnnlib.inside.geometry import receptive_field
from cnnlib.inside.landscape import Slice

__all__ = [
    "Slice",
    "feature_maps",
    "grad_cam",
    "maximize_unit",
    "receptive_field",
    "top_patches",
]
