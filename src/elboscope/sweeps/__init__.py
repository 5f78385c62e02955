"""Sweeps: many training runs over hyper-parameters and seeds, none of which is lost.

A *trial* is one point of the space of hyper-parameters; a *run* is a trial with one seed, and a
run folder of its own. The folders say what has been done: optuna's journal holds nothing but
which points were asked for and what the sampler was given, submitit's files nothing that is read
again. Hence the same call continues a sweep, whatever was killed.

Importing this package imports no torch, optuna or submitit: a process that only waits for a
training has no use for them.
"""
