"""Models: the library's own VAEs, and models whose every quantity is known exactly."""

from .architectures import conv_vae, mlp_vae, start_at_mean
from .autoencoder import Autoencoder, completeness, continuity, conv_autoencoder, mlp_autoencoder
from .exact.bimodal import Bimodal, SeparatedPosteriors
from .exact.enumerable import EnumerableBernoulli, SingleBit
from .exact.linear_gaussian import LinearGaussian
from .exact.linear_toys import GaussianToy, LinearChain, LinearGaussianStateSpace
from .exact.quadrature import grid_log_likelihood
from .from_modules import from_modules
from .gan import GAN, color_mnist_gan, dcgan, mlp_gan
from .hierarchical import GaussianLayer, HierarchicalVAE, hierarchical_vae
from .hybrids import (
    Hybrid,
    color_mnist_hybrid,
    dcgan_hybrid,
    implicit_posterior,
    mlp_avb,
    mlp_hybrid,
)
from .pixelcnn import AutoregressiveImage, PixelCNNVAE, pixelcnn_vae
from .posteriors import (
    IAF,
    MAF,
    AuxiliaryRealNVP,
    CommittedGaussian,
    FullCovariance,
    Planar,
    PosteriorFamily,
    RealNVP,
)
from .priors import AutoregressivePrior, FlowPrior, MixturePrior, PriorFamily, VampPrior
from .stacked import StackedVAE, member, stack
from .vae import VAE

__all__ = [
    "GAN",
    "IAF",
    "MAF",
    "VAE",
    "Autoencoder",
    "AutoregressiveImage",
    "AutoregressivePrior",
    "AuxiliaryRealNVP",
    "Bimodal",
    "CommittedGaussian",
    "EnumerableBernoulli",
    "FlowPrior",
    "FullCovariance",
    "GaussianLayer",
    "GaussianToy",
    "HierarchicalVAE",
    "Hybrid",
    "LinearChain",
    "LinearGaussian",
    "LinearGaussianStateSpace",
    "MixturePrior",
    "PixelCNNVAE",
    "Planar",
    "PosteriorFamily",
    "PriorFamily",
    "RealNVP",
    "SeparatedPosteriors",
    "SingleBit",
    "StackedVAE",
    "VampPrior",
    "color_mnist_gan",
    "color_mnist_hybrid",
    "completeness",
    "continuity",
    "conv_autoencoder",
    "conv_vae",
    "dcgan",
    "dcgan_hybrid",
    "from_modules",
    "grid_log_likelihood",
    "hierarchical_vae",
    "implicit_posterior",
    "member",
    "mlp_autoencoder",
    "mlp_avb",
    "mlp_gan",
    "mlp_hybrid",
    "mlp_vae",
    "pixelcnn_vae",
    "stack",
    "start_at_mean",
]
