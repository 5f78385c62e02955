"""Networks: parameters, no probability."""

from .conv import conv_decoder, conv_encoder
from .mlp import Activation, activation, mlp
from .pixelcnn import GatedPixelCNN
from .stacked import StackedLinear, StackedMLP, num_members, stacked_mlp

__all__ = [
    "Activation",
    "GatedPixelCNN",
    "StackedLinear",
    "StackedMLP",
    "activation",
    "conv_decoder",
    "conv_encoder",
    "mlp",
    "num_members",
    "stacked_mlp",
]
