"""Reproductions: published tables and figures, our numbers beside the papers'.

A folder a paper, a file an experiment; :mod:`.frame` holds what they share. All of them are listed
here, where nothing imports torch: ``elboscope reproduce --help`` shows the list.
"""

from __future__ import annotations

__all__ = ["EXPERIMENTS", "SCALES", "Listed", "listed", "names_taking"]

from typing import NamedTuple

SCALES = ("smoke", "cpu", "paper")


class Listed(NamedTuple):
    """An experiment, as far as the command line must know it before it runs.

    Attributes:
        name: On the command line, of the result's default folder, and of the references' file.
        where: Its module below this package and its name there, "paper.module:NAME".
        summary: One line.
        takes: Options that only some experiments take; ``--workers`` if its runs may be processes
            of their own.
    """

    name: str
    where: str
    summary: str
    takes: tuple[str, ...] = ()

    @property
    def paper(self) -> str:
        """The folder of its paper."""
        return self.where.partition(".")[0]


EXPERIMENTS = (
    Listed(
        "iwae-table1",
        "burda2016.table1:EXPERIMENT",
        "test NLL and active units of VAEs and IWAEs (Burda et al., 2016, Table 1)",
        takes=("--omniglot",),
    ),
    Listed(
        "tighter-bounds-table1",
        "rainforth2018.tighter_bounds:EXPERIMENT",
        "bounds of VAE, IWAE, MIWAE, PIWAE, CIWAE (Rainforth et al., 2018, Table 1)",
    ),
    Listed(
        "iwae-posteriors",
        "burda2016.posteriors:EXPERIMENT",
        "2-D posteriors of a VAE and an IWAE (Burda et al., 2016)",
    ),
    Listed(
        "latent-2d",
        "cremer2018.latent_2d:EXPERIMENT",
        "true posteriors of two latents, q and the best q of each image (Cremer et al., 2018)",
    ),
    Listed(
        "snr-figure",
        "rainforth2018.snr:EXPERIMENT",
        "gradient signal-to-noise against K (Rainforth et al., 2018)",
    ),
    Listed(
        "flow-amortisation",
        "cremer2018.flow_amortisation:EXPERIMENT",
        "what a flow gains for a linear encoder on a frozen decoder (Cremer et al., 2018)",
    ),
    Listed(
        "decoder-capacity",
        "cremer2018.decoder_capacity:EXPERIMENT",
        "decoders of 0, 2, 4 hidden layers and the gap of diagonal Gaussians (Cremer et al., 2018)",
    ),
    Listed(
        "inference-overfitting",
        "cremer2018.overfitting:EXPERIMENT",
        "gaps of training and held-out images (Cremer et al., 2018)",
    ),
    Listed(
        "inference-suboptimality-table1",
        "cremer2018.table1:EXPERIMENT",
        "gaps by family and by encoder (Cremer et al., 2018, Table 1)",
        takes=("--columns",),
    ),
    Listed(
        "single-bit",
        "shu2017.single_bit:EXPERIMENT",
        "a VAE of copies of one bit beside its exact optimum (Shu, 2017)",
    ),
    Listed(
        "kl-weight-sweep",
        "lucas2019.kl_weight_sweep:EXPERIMENT",
        "which weights of the KL collapse a VAE, and which of them must",
    ),
    Listed(
        "low-posterior-samples",
        "rosca2018.low_posterior:EXPERIMENT",
        "what a VAE makes of latents that q(z) hardly reaches (Rosca et al., 2018)",
    ),
    Listed(
        "elbo-surgery",
        "hoffman2016.elbo_surgery:EXPERIMENT",
        "reconstruction, mutual information and marginal KL over training, and better priors "
        "(Hoffman and Johnson, 2016)",
    ),
    Listed(
        "marginal-kl",
        "rosca2018.marginal_kl:EXPERIMENT",
        "KL(q(z)‖p(z)) by posterior, likelihood and latents (Rosca et al., 2018)",
    ),
    Listed(
        "marginal-kl-estimators",
        "rosca2018.marginal_kl_estimators:EXPERIMENT",
        "one marginal KL by mixture, classifiers and density models (Rosca et al., 2018)",
    ),
    Listed(
        "density-ratio-synthetic",
        "rosca2018.density_ratio:EXPERIMENT",
        "density ratios of Gaussians whose KL is known: estimation and learning (Rosca et "
        "al., 2018)",
    ),
    Listed(
        "hybrids-colormnist",
        "rosca2018.hybrids:COLOR_MNIST",
        "samples of VAEs, VAE-GAN hybrids and GANs, ColorMNIST (Rosca et al., 2018)",
        takes=("--workers",),
    ),
    Listed(
        "hybrids-cifar10",
        "rosca2018.hybrids:CIFAR_10",
        "the same on CIFAR-10 (Rosca et al., 2018)",
        takes=("--workers",),
    ),
    Listed(
        "hybrids-celeba",
        "rosca2018.hybrids:CELEBA",
        "the same on CelebA, from a folder of yours (Rosca et al., 2018)",
        takes=("--workers",),
    ),
    Listed(
        "stacked-mnist",
        "srivastava2017.stacked_mnist:EXPERIMENT",
        "modes of Stacked MNIST that AVB, VEEGAN, VGH, VGH++ and a DCGAN cover (Srivastava et "
        "al., 2017)",
    ),
    Listed(
        "latent-scaling",
        "rosca2018.latent_scaling:EXPERIMENT",
        "VAEs and AAEs with 10 to 10 000 latents (Rosca et al., 2018)",
    ),
    Listed(
        "bounds-over-training",
        "rosca2018.bounds_over_training:EXPERIMENT",
        "what is called a bound of AAE and VEEGAN, beside a VAE's ELBO (Rosca et al., 2018)",
    ),
)


def listed(name: str) -> Listed:
    """Returns what is listed under a name.

    Raises:
        KeyError: Nothing is.

    Example:
        >>> listed("iwae-table1").where
        'burda2016.table1:EXPERIMENT'
    """
    return {entry.name: entry for entry in EXPERIMENTS}[name]


def names_taking(option: str) -> tuple[str, ...]:
    """Returns the names of the experiments that take an option.

    Example:
        >>> names_taking("--omniglot")
        ('iwae-table1',)
    """
    return tuple(entry.name for entry in EXPERIMENTS if option in entry.takes)
