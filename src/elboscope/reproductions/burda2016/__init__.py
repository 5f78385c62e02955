"""Burda, Grosse and Salakhutdinov (2016): importance weighted autoencoders."""
