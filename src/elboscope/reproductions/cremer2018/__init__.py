"""Cremer, Li and Duvenaud (2018): inference suboptimality in variational autoencoders."""
