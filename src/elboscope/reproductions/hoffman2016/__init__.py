"""Hoffman and Johnson (2016): ELBO surgery."""
