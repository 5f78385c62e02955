"""Rainforth et al. (2018): tighter variational bounds are not necessarily better."""
