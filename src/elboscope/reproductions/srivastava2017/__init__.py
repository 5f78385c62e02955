"""Srivastava et al. (2017): VEEGAN, and the modes of Stacked MNIST."""
