r"""Computes the evidence once: encodings, K weights per datapoint, the aggregate posterior.

Order: the contract first (a structural breach raises, because every later number would be
wrong), then a few timed decoder passes, which say how many datapoints the budget can afford, and
then each quantity for itself. A quantity that the model cannot be asked for, that the clock does
not allow, or that comes out NaN is left ``None`` with its reason; no other method takes its
place. All numbers are about β = 1 and about the data given: at most ``budget.num_data`` of it,
one datapoint drawn from each of as many equal stretches.
"""

from __future__ import annotations

__all__ = ["Progress", "gather_evidence"]

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor

from elboscope import estimators
from elboscope.core import (
    Capabilities,
    Estimate,
    GenerativeModel,
    InputError,
    LatentVariableModel,
    Sampled,
    as_generative,
    evaluating,
    placed_like,
    seeded,
)

from .attempts import Attempts, Progress
from .budget import PRIOR_DATA, STANDARD, WEIGHED_TRAIN, Budget, budget_named
from .decision import (
    NO_CLOSED_FORM,
    no_density,
    no_encoder,
    no_gap,
    no_likelihood,
    no_weights,
    not_gaussian,
)
from .evidence import Evidence
from .plan import Plan, capabilities_of, chosen, plan_for, stratified
from .quantities.inference import split
from .quantities.latents import latent_pictures, matched
from .quantities.likelihood import (
    bound_gap,
    certified,
    implied_scale,
    implied_weight,
    labelled,
    posterior_kl,
    posterior_means,
    shown,
)
from .quantities.samples import samples_scored

NUM_SHOWN = 16  # images in a row of the report
NUM_ATTEMPTS = 31  # quantities that progress counts


def gather_evidence(
    model: Sampled,
    x: Float[Tensor, "N *X"],
    *,
    x_train: Float[Tensor, "M *X"] | None = None,
    history: Sequence[Mapping[str, float]] = (),
    budget: Budget | str = STANDARD,
    seed: int = 0,
    condition: Tensor | None = None,
    condition_train: Tensor | None = None,
    images: Float[Tensor, "N *Y"] | None = None,
    settings: Mapping[str, object] | None = None,
    progress: Progress | None = None,
) -> Evidence:
    """Computes everything the checks and the report need, and says why anything is missing.

    Args:
        model: A model that keeps the contract; evaluated in evaluation mode, then restored.
        x: Evaluation data, binarised as it shall be.
        x_train: Training data; the aggregate posterior is then theirs.
        history: Rows of the training's metrics, for the divergence check.
        budget: A budget or its name.
        seed: Seed of everything drawn.
        condition: One row per row of x, for ``model.given``.
        condition_train: The same for ``x_train``.
        images: What x shows, where x is a binary draw of it: with these samples are compared.
        settings: What is known about the run: binarisation, likelihood, kl_weight, reduction;
            repeated beside the numbers.
        progress: Called as ``progress(stage, done, total)`` before each quantity.

    Returns:
        The evidence.

    Raises:
        ContractError: A structural breach of the model's contract.
        InputError: A budget of another name; conditions that do not match the data.

    Example:
        >>> import elboscope as es
        >>> model = es.models.LinearGaussian.instance_1()
        >>> x, _ = model.sample(50, seed=0)
        >>> evidence = gather_evidence(model, x, budget="quick")
        >>> evidence.settings["n"], evidence.log_px.settings["num_samples"]
        (50, 1000)
    """
    sampled, budget, model = model, budget_named(budget), as_generative(model)
    _check_condition("condition", condition, x)
    _check_condition("condition_train", condition_train, x_train)
    _check_condition("images", images, x)
    x = placed_like(x, model)
    x_train = None if x_train is None else placed_like(x_train, model)
    with evaluating(model):
        capabilities, broken = capabilities_of(model, x, condition)
        plan = plan_for(model, capabilities, x, x_train, budget, seed, condition, condition_train)
        evidence = _start(capabilities, plan, history, dict(settings or {}))
        suspect = bool(broken) or not capabilities.finite
        attempts = Attempts(progress, NUM_ATTEMPTS, suspect=suspect)
        if broken:
            attempts.nonfinite["parameters"] = broken
        evidence = _sampled(model, plan, evidence, attempts)
        evidence = certified(model, plan, evidence, attempts)
        evidence = split(model, plan, evidence, attempts)
        evidence = latent_pictures(model, plan, evidence, attempts)
        evidence = _latent(model, plan, evidence, attempts)
        evidence = matched(model, plan, evidence, attempts)
        evidence = samples_scored(sampled, plan, x, images, evidence, attempts)
        evidence = _pictures(model, plan, evidence, attempts)
    return replace(evidence, skipped=attempts.skipped, nonfinite=attempts.nonfinite)


def _check_condition(name: str, condition: Tensor | None, x: Tensor | None) -> None:
    if condition is not None and (x is None or len(condition) != len(x)):
        rows = 0 if x is None else len(x)
        raise InputError(
            name, expected=f"one row per datapoint ({rows})", got=f"{len(condition)} rows"
        )


def _start(
    capabilities: Capabilities,
    plan: Plan,
    history: Sequence[Mapping[str, float]],
    settings: dict[str, object],
) -> Evidence:
    families = {"likelihood": capabilities.likelihood, "posterior": capabilities.posterior}
    return Evidence(
        capabilities=capabilities,
        settings={**families, **settings, **plan.record()},
        x=plan.x,
        x_train=plan.x_train,
        history=tuple(history),
    )


def _sampled(model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts) -> Evidence:
    """What needs p(x|z): the likelihood by both samplers, the ELBO and its reconstruction."""
    scored, weighed = no_likelihood(evidence), no_weights(evidence)
    q = cast(LatentVariableModel, model)
    budget, seed = plan.budget, plan.seed
    c, c_train = plan.condition, plan.condition_train
    x, x_train = plan.x, plan.x if plan.x_train is None else plan.x_train
    some = stratified(len(x), PRIOR_DATA, seed)
    few_train = stratified(len(x_train), WEIGHED_TRAIN, seed)
    no_train = "" if plan.x_train is not None else "no training data was given"
    K, few = budget.num_samples, budget.num_elbo_samples
    elbo = attempt(
        "elbo", weighed, lambda: estimators.evidence_lower_bound(q, x, few, seed=seed, condition=c)
    )
    bounds = attempt(
        "log_px",
        weighed or plan.too_slow,
        lambda: tuple(
            estimators.importance_weighted_bounds(
                q, x, estimators.sample_ladder(K), seed=seed, condition=c
            ).values()
        ),
    )
    log_px = None if bounds is None else bounds[-1]
    found = replace(
        evidence,
        elbo=elbo,
        log_px=log_px,
        bounds_by_samples=_by_samples(bounds),
        reconstruction=attempt(
            "reconstruction",
            no_encoder(evidence) or scored,
            lambda: estimators.reconstruction(q, x, few, seed=seed, condition=c),
        ),
        prior_sampling=attempt(
            "prior_sampling",
            scored or plan.too_slow,
            lambda: estimators.prior_sampling(
                model, x[some], K, seed=seed, condition=chosen(c, some)
            ),
        ),
        train_elbo=attempt(
            "train_elbo",
            no_train or weighed,
            lambda: estimators.evidence_lower_bound(
                q, x_train, few, seed=seed + 1, condition=c_train
            ),
        ),
        train_log_px=attempt(
            "train_log_px",
            no_train or weighed or plan.too_slow,
            lambda: estimators.importance_sampling(
                q, x_train[few_train], K, seed=seed + 1, condition=chosen(c_train, few_train)
            ),
        ),
        scale=attempt(
            "scale",
            no_encoder(evidence) or not_gaussian(evidence),
            lambda: implied_scale(q, x, c, seed=seed),
        ),
    )
    return replace(
        labelled(found),
        bound_gap=attempt(
            "bound_gap",
            no_gap(elbo, log_px, attempt.skipped),
            lambda: bound_gap(log_px, elbo),
        ),
    )


def _by_samples(bounds: tuple[Estimate, ...] | None) -> Mapping[int, Estimate] | None:
    if bounds is None:
        return None
    return {int(str(bound.settings["num_samples"])): bound for bound in bounds}


def _latent(model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts) -> Evidence:
    """What is asked of q(z|x): rates, units, the aggregate posterior."""
    q, x, c = cast(LatentVariableModel, model), plan.x, plan.condition
    encoded, dense = no_encoder(evidence), no_density(evidence)
    closed = dense or ("" if evidence.capabilities.analytic_kl else NO_CLOSED_FORM)
    held_out, c_held_out = (None, None) if plan.x_train is None else (x, c)
    return replace(
        evidence,
        kl=attempt("kl", closed, lambda: posterior_kl(q, x, c)),
        unit_kl=attempt("unit_kl", dense, lambda: estimators.unit_kl(q, x, condition=c)),
        active_units=attempt(
            "active_units", encoded, lambda: estimators.active_units(q, x, condition=c)
        ),
        zeroing=attempt(
            "zeroing",
            encoded or no_likelihood(evidence),
            lambda: estimators.zeroing_effect(q, x, seed=plan.seed, condition=c),
        ),
        implied_kl_weight=attempt(
            "implied_kl_weight",
            dense or no_likelihood(evidence),
            lambda: implied_weight(q, x, c, seed=plan.seed),
        ),
        surgery=attempt(
            "surgery",
            dense or no_likelihood(evidence),
            lambda: estimators.elbo_surgery(
                q,
                plan.x_mixture if held_out is None else held_out,
                x_train=None if held_out is None else plan.x_mixture,
                seed=plan.seed,
                condition=plan.condition_mixture if held_out is None else c_held_out,
                condition_train=None if held_out is None else plan.condition_mixture,
            ),
        ),
        posterior_means=attempt("posterior_means", encoded, lambda: posterior_means(q, x, c)),
    )


def _pictures(
    model: GenerativeModel, plan: Plan, evidence: Evidence, attempt: Attempts
) -> Evidence:
    """Decoder means for the first x and for draws of the prior."""
    shape, few = evidence.capabilities.latent_shape, plan.x[:NUM_SHOWN]
    broken = "; ".join(evidence.capabilities.problems) if not shape else ""

    def reconstructed() -> Tensor:
        means = cast(Tensor, evidence.posterior_means)[: len(few)]
        return shown(model, means.reshape(len(few), *shape), plan.condition)

    def drawn() -> Tensor:
        with seeded(plan.seed):
            z = model.prior().sample(torch.Size((len(few),)))
        return shown(model, z, plan.condition)

    no_means = "" if evidence.posterior_means is not None else "there are no posterior means"
    return replace(
        evidence,
        reconstructions=attempt("reconstructions", broken or no_means, reconstructed),
        prior_samples=attempt("prior_samples", broken, drawn),
    )
