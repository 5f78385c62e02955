"""Reproductions: one published table or figure a file, our number beside the paper's.

Each module ends in ``reproduce(scale, *, out, seed, options, progress) -> Reproduction``. The
names are here, and nothing in here imports torch: ``elboscope reproduce --help`` lists them.
"""

from __future__ import annotations

__all__ = ["INDEPENDENT_RUNS", "SCALES", "SUMMARIES", "module_name"]

SCALES = ("smoke", "cpu", "paper")

SUMMARIES = {
    "iwae-table1": "test NLL and active units of VAEs and IWAEs (Burda et al., 2016, Table 1)",
    "tighter-bounds-table1": "bounds of VAE, IWAE, MIWAE, PIWAE, CIWAE "
    "(Rainforth et al., 2018, Table 1)",
    "iwae-posteriors": "2-D posteriors of a VAE and an IWAE (Burda et al., 2016)",
    "latent-2d": "true posteriors of two latents, q and the best q of each image "
    "(Cremer et al., 2018)",
    "snr-figure": "gradient signal-to-noise against K (Rainforth et al., 2018)",
    "flow-amortisation": "what a flow gains for a linear encoder on a frozen decoder "
    "(Cremer et al., 2018)",
    "decoder-capacity": "decoders of 0, 2, 4 hidden layers and the gap of diagonal Gaussians "
    "(Cremer et al., 2018)",
    "inference-overfitting": "gaps of training and held-out images (Cremer et al., 2018)",
    "inference-suboptimality-table1": "gaps by family and by encoder (Cremer et al., 2018, "
    "Table 1)",
    "single-bit": "a VAE of copies of one bit beside its exact optimum (Shu, 2017)",
    "kl-weight-sweep": "which weights of the KL collapse a VAE, and which of them must",
    "low-posterior-samples": "what a VAE makes of latents that q(z) hardly reaches "
    "(Rosca et al., 2018)",
    "elbo-surgery": "reconstruction, mutual information and marginal KL over training, and better "
    "priors (Hoffman and Johnson, 2016)",
    "marginal-kl": "KL(q(z)‖p(z)) by posterior, likelihood and latents (Rosca et al., 2018)",
    "marginal-kl-estimators": "one marginal KL by mixture, classifiers and density models "
    "(Rosca et al., 2018)",
    "density-ratio-synthetic": "density ratios of Gaussians whose KL is known: estimation and "
    "learning (Rosca et al., 2018)",
    "hybrids-colormnist": "samples of VAEs, VAE-GAN hybrids and GANs, ColorMNIST "
    "(Rosca et al., 2018)",
    "hybrids-cifar10": "the same on CIFAR-10 (Rosca et al., 2018)",
    "hybrids-celeba": "the same on CelebA, from a folder of yours (Rosca et al., 2018)",
    "stacked-mnist": "modes of Stacked MNIST that AVB, VEEGAN, VGH, VGH++ and a DCGAN cover "
    "(Srivastava et al., 2017)",
    "latent-scaling": "VAEs and AAEs with 10 to 10 000 latents (Rosca et al., 2018)",
    "bounds-over-training": "what is called a bound of AAE and VEEGAN, beside a VAE's ELBO "
    "(Rosca et al., 2018)",
}

# Those whose runs may be processes of their own: their modules have ``reproduce_run`` as well.
INDEPENDENT_RUNS = ("hybrids-colormnist", "hybrids-cifar10", "hybrids-celeba")


_HOME = {
    "iwae-table1": "burda2016.table1",
    "tighter-bounds-table1": "rainforth2018.tighter_bounds",
    "iwae-posteriors": "burda2016.posteriors",
    "latent-2d": "cremer2018.latent_2d",
    "snr-figure": "rainforth2018.snr",
    "flow-amortisation": "cremer2018.flow_amortisation",
    "decoder-capacity": "cremer2018.decoder_capacity",
    "inference-overfitting": "cremer2018.overfitting",
    "inference-suboptimality-table1": "cremer2018.table1",
    "single-bit": "shu2017.single_bit",
    "kl-weight-sweep": "lucas2019.kl_weight_sweep",
    "low-posterior-samples": "rosca2018.low_posterior",
    "elbo-surgery": "hoffman2016.elbo_surgery",
    "marginal-kl": "rosca2018.marginal_kl",
    "marginal-kl-estimators": "rosca2018.marginal_kl_estimators",
    "density-ratio-synthetic": "rosca2018.density_ratio",
    "hybrids-colormnist": "rosca2018.hybrids_colormnist",
    "hybrids-cifar10": "rosca2018.hybrids_cifar10",
    "hybrids-celeba": "rosca2018.hybrids_celeba",
    "stacked-mnist": "srivastava2017.stacked_mnist",
    "latent-scaling": "rosca2018.latent_scaling",
    "bounds-over-training": "rosca2018.bounds_over_training",
}


def module_name(name: str) -> str:
    """Returns the module that reproduces ``name``.

    Example:
        >>> module_name("iwae-table1")
        'elboscope.reproductions.burda2016.table1'
    """
    return f"{__name__}.{_HOME[name]}"
