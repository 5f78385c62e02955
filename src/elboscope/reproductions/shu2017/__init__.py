"""Shu (2017): a VAE of copies of one bit, beside its exact optimum."""
