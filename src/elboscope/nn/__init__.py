"""Networks: parameters, no probability."""

from .conv import conv_decoder, conv_encoder
from .mlp import Activation, activation, mlp

__all__ = ["Activation", "activation", "conv_decoder", "conv_encoder", "mlp"]
