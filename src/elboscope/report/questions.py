"""The questions a report answers, each with its checks, its numbers and its way of answering."""

from __future__ import annotations

__all__ = ["QUESTIONS", "Question", "unasked"]

from collections.abc import Iterable
from dataclasses import dataclass

from elboscope.core import Finding


@dataclass(frozen=True)
class Question:
    """A section of the report.

    Attributes:
        key: The name of its section in the page's address, and of its plots.
        title: The question.
        lead: How it is answered.
        checks: The checks whose verdicts answer it.
        estimates: The numbers that it shows, in order.
    """

    key: str
    title: str
    lead: str
    checks: tuple[str, ...]
    estimates: tuple[str, ...]


QUESTIONS = (
    Question(
        "trust",
        "Can the likelihood be trusted?",
        "Importance sampling averages weights p(x, z)/q(z|x). The estimate is as good as those "
        "weights: k̂ is the index of their tail, the effective sample size says how many of the "
        "samples count, and half the samples must give the same answer.",
        ("likelihood trust",),
        ("log_px", "log_px_half", "log_px_psis", "prior_sampling"),
    ),
    Question(
        "certificate",
        "How far can log p(x) be off?",
        "k̂ cannot know what q never visits; annealed importance sampling (AIS) walks there. On "
        "data that the model simulates there is an upper bound as well: how far the estimate, made "
        "with the same settings, lies below it is certified for such data. For the real data no "
        "upper bound exists, and that they are as easy is an assumption.",
        ("likelihood certificate",),
        (
            "log_px_combined",
            "log_px_widened",
            "log_px_annealed",
            "simulated_upper",
            "simulated_combined",
            "simulated_importance",
            "simulated_lower",
            "certificate_width",
        ),
    ),
    Question(
        "bound",
        "How tight is the bound?",
        "The ELBO falls short of log p(x) by KL(q(z|x) ‖ p(z|x)): the price of an approximate "
        "posterior. The gap is taken datapoint by datapoint, so that the spread of the data "
        "cancels.",
        ("bound tightness",),
        ("log_px", "elbo", "bound_gap", "reconstruction", "kl"),
    ),
    Question(
        "inference",
        "Why does inference lose?",
        "The gap has two parts. The best posterior q* of the encoder's own family, searched for "
        "each datapoint by itself, divides them: above it is what the family cannot do "
        "(approximation), below it what the encoder, which answers for all x at once, does not "
        "reach (amortisation). A richer posterior repairs the first, a better encoder the second.",
        ("inference gap",),
        (
            "inference_log_px",
            "optimal_flow",
            "optimal_full",
            "optimal_diagonal",
            "inference_elbo",
            "approximation_gap",
            "amortisation_gap",
            "inference_gap",
            "richer_gain",
            "train_approximation_gap",
            "train_amortisation_gap",
        ),
    ),
    Question(
        "latents",
        "Does it use its latents?",
        "A collapsed unit equals the prior whatever x is. Four views: what each unit costs, "
        "whether its posterior mean moves with x, how much the code tells about x, and what is "
        "lost when the unit is replaced by the prior's mean.",
        ("posterior collapse",),
        ("unit_kl", "active_units", "zeroing", "mutual_information"),
    ),
    Question(
        "prior",
        "Latent space: does the aggregate posterior match the prior?",
        "Samples are decoded from p(z), but the decoder was trained on draws of "
        "q(z) = mean of q(z|x). Where the two differ, samples come from places the decoder has "
        "never seen. The average KL is information plus this mismatch. How large it is (three "
        "kinds of estimate), what a prior fitted to q(z) would win, and whether the model knows "
        "that its samples from where q(z) hardly goes are bad.",
        ("prior hole", "low-posterior samples"),
        (
            "mixture_kl",
            "mutual_information",
            "marginal_kl",
            "marginal_kl_plain",
            "marginal_kl_held_out",
            "total_correlation",
            "dimensionwise_kl",
            "marginal_kl_ratio",
            "marginal_kl_donsker_varadhan",
            "marginal_kl_nwj",
            "marginal_kl_gmm",
            "marginal_kl_maf",
            "marginal_kl_lstm",
            "marginal_kl_discriminator",
            "discriminator_accuracy",
            "fitted_prior_gain",
            "fitted_prior_elbo_before",
            "fitted_prior_elbo",
        ),
    ),
    Question(
        "samples",
        "How good are its samples?",
        "Without a likelihood: by a classifier of such images. Coverage is the share of data with "
        "a sample nearby, density how many data a sample is near to. Reconstructions come out of "
        "the same decoder: what samples lack beside them is due to latents that no datapoint is "
        "encoded to.",
        ("sample quality",),
        (),
    ),
    Question(
        "scale",
        "Is the likelihood's scale right?",
        "A Gaussian decoder's σ² sets the exchange rate between reconstruction and KL. At the "
        "optimum it equals the mean squared error per value. A Bernoulli on grey values is not a "
        "normalised density at all.",
        ("likelihood scale",),
        (),
    ),
    Question(
        "overfitting",
        "Does it overfit?",
        "The same estimator, with the same number of samples, on data the model has been fitted "
        "to and on data it has not.",
        ("overfitting",),
        ("log_px", "train_log_px", "elbo", "train_elbo"),
    ),
    Question(
        "divergence",
        "Did training diverge?",
        "NaN, infinite or absurd values, in the training history and in the model as it is now.",
        ("divergence",),
        (),
    ),
)


def unasked(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Returns the checks that belong to no question, such as a user's own.

    Example:
        >>> unasked([Finding("prior hole", "ok", "…"), Finding("my own", "ok", "…")])
        ('my own',)
    """
    asked = {check for question in QUESTIONS for check in question.checks}
    return tuple(f.check for f in findings if f.check not in asked)
