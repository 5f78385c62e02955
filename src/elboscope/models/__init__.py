"""Models: the library's own VAEs, and models whose every quantity is known exactly."""

from .bimodal import Bimodal
from .enumerable import EnumerableBernoulli
from .from_modules import from_modules
from .linear_gaussian import LinearGaussian
from .quadrature import grid_log_likelihood
from .separated import SeparatedPosteriors
from .single_bit import SingleBit
from .state_space import LinearGaussianStateSpace
from .vae import VAE

__all__ = [
    "Bimodal",
    "EnumerableBernoulli",
    "LinearGaussian",
    "LinearGaussianStateSpace",
    "SeparatedPosteriors",
    "SingleBit",
    "VAE",
    "from_modules",
    "grid_log_likelihood",
]
