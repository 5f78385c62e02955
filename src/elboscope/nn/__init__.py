"""Networks: parameters, no probability."""

from .dcgan import (
    Norm,
    Output,
    color_mnist_discriminator,
    color_mnist_encoder,
    color_mnist_generator,
    dcgan_discriminator,
    dcgan_encoder,
    dcgan_generator,
)
from .games import (
    AVBAdversary,
    JointDiscriminator,
    NoiseBasis,
    NoiseBasisEncoder,
    code_discriminator,
    conv_joint_discriminator,
    mlp_discriminator,
    mlp_joint_discriminator,
)
from .networks import (
    Activation,
    ConvClassifier,
    ResidualClassifier,
    activation,
    conv_decoder,
    conv_encoder,
    mlp,
)
from .pixelcnn import GatedPixelCNN
from .stacked import StackedLinear, StackedMLP, num_members, stacked_mlp

__all__ = [
    "AVBAdversary",
    "Activation",
    "ConvClassifier",
    "GatedPixelCNN",
    "JointDiscriminator",
    "NoiseBasis",
    "NoiseBasisEncoder",
    "Norm",
    "Output",
    "ResidualClassifier",
    "StackedLinear",
    "StackedMLP",
    "activation",
    "code_discriminator",
    "color_mnist_discriminator",
    "color_mnist_encoder",
    "color_mnist_generator",
    "conv_decoder",
    "conv_encoder",
    "conv_joint_discriminator",
    "dcgan_discriminator",
    "dcgan_encoder",
    "dcgan_generator",
    "mlp",
    "mlp_discriminator",
    "mlp_joint_discriminator",
    "num_members",
    "stacked_mlp",
]
