"""Models: the library's own VAEs, and models whose every quantity is known exactly."""

from .architectures import conv_vae, mlp_vae, start_at_mean
from .autoencoder import Autoencoder, conv_autoencoder, mlp_autoencoder
from .bimodal import Bimodal
from .committed import CommittedGaussian
from .enumerable import EnumerableBernoulli
from .from_modules import from_modules
from .gaussian_toy import GaussianToy
from .hierarchical import GaussianLayer, HierarchicalVAE, hierarchical_vae
from .latent_space import completeness, continuity
from .linear_chain import LinearChain
from .linear_gaussian import LinearGaussian
from .pixelcnn import AutoregressiveImage, PixelCNNVAE, pixelcnn_vae
from .posterior_heads import PosteriorFamily
from .posteriors import IAF, MAF, AuxiliaryRealNVP, FullCovariance, Planar, RealNVP
from .priors import FlowPrior, MixturePrior, PriorFamily, VampPrior
from .quadrature import grid_log_likelihood
from .separated import SeparatedPosteriors
from .single_bit import SingleBit
from .stacked import StackedVAE, member, stack
from .state_space import LinearGaussianStateSpace
from .vae import VAE

__all__ = [
    "IAF",
    "MAF",
    "VAE",
    "Autoencoder",
    "AutoregressiveImage",
    "AuxiliaryRealNVP",
    "Bimodal",
    "CommittedGaussian",
    "EnumerableBernoulli",
    "FlowPrior",
    "FullCovariance",
    "GaussianLayer",
    "GaussianToy",
    "HierarchicalVAE",
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
    "completeness",
    "continuity",
    "conv_autoencoder",
    "conv_vae",
    "from_modules",
    "grid_log_likelihood",
    "hierarchical_vae",
    "member",
    "mlp_autoencoder",
    "mlp_vae",
    "pixelcnn_vae",
    "stack",
    "start_at_mean",
]
