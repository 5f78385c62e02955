"""The questions a report answers, and how.

A check and a number name the questions that they belong to (``asked_in``), by these keys.
"""

from __future__ import annotations

__all__ = ["QUESTIONS", "Question", "unasked"]

from collections.abc import Iterable
from dataclasses import dataclass

from elboscope.core import Finding
from elboscope.diagnostics import CHECKS, NUMBERS


@dataclass(frozen=True)
class Question:
    """A section of the report.

    Attributes:
        key: The name of its section in the page's address, and of its panels.
        title: The question.
        lead: How it is answered.
    """

    key: str
    title: str
    lead: str

    @property
    def checks(self) -> tuple[str, ...]:
        """The checks whose verdicts answer it."""
        return tuple(check.name for check in CHECKS if check.asked_in == self.key)

    @property
    def numbers(self) -> tuple[str, ...]:
        """The numbers that have a row in it, in order."""
        return tuple(name for name, number in NUMBERS.items() if self.key in number.asked_in)


QUESTIONS = (
    Question(
        "trust",
        "Can the likelihood be trusted?",
        "Importance sampling averages weights p(x, z)/q(z|x). The estimate is as good as those "
        "weights: k̂ is the index of their tail, the effective sample size says how many of the "
        "samples count, and half the samples must give the same answer.",
    ),
    Question(
        "certificate",
        "How far can log p(x) be off?",
        "k̂ cannot know what q never visits; annealed importance sampling (AIS) walks there. On "
        "data that the model simulates there is an upper bound as well: how far the estimate, made "
        "with the same settings, lies below it is certified for such data. For the real data no "
        "upper bound exists, and that they are as easy is an assumption.",
    ),
    Question(
        "bound",
        "How tight is the bound?",
        "The ELBO falls short of log p(x) by KL(q(z|x) ‖ p(z|x)): the price of an approximate "
        "posterior. The gap is taken datapoint by datapoint, so that the spread of the data "
        "cancels.",
    ),
    Question(
        "inference",
        "Why does inference lose?",
        "The gap has two parts. The best posterior q* of the encoder's own family, searched for "
        "each datapoint by itself, divides them: above it is what the family cannot do "
        "(approximation), below it what the encoder, which answers for all x at once, does not "
        "reach (amortisation). A richer posterior repairs the first, a better encoder the second.",
    ),
    Question(
        "latents",
        "Does it use its latents?",
        "A collapsed unit equals the prior whatever x is. Four views: what each unit costs, "
        "whether its posterior mean moves with x, how much the code tells about x, and what is "
        "lost when the unit is replaced by the prior's mean.",
    ),
    Question(
        "prior",
        "Latent space: does the aggregate posterior match the prior?",
        "Samples are decoded from p(z), but the decoder was trained on draws of "
        "q(z) = mean of q(z|x). Where the two differ, samples come from places the decoder has "
        "never seen. The average KL is information plus this mismatch. How large it is (three "
        "kinds of estimate), what a prior fitted to q(z) would win, and whether the model knows "
        "that its samples from where q(z) hardly goes are bad.",
    ),
    Question(
        "samples",
        "How good are its samples?",
        "Without a likelihood: by a classifier of such images. Coverage is the share of data with "
        "a sample nearby, density how many data a sample is near to. Reconstructions come out of "
        "the same decoder: what samples lack beside them is due to latents that no datapoint is "
        "encoded to.",
    ),
    Question(
        "scale",
        "Is the likelihood's scale right?",
        "A Gaussian decoder's σ² sets the exchange rate between reconstruction and KL. At the "
        "optimum it equals the mean squared error per value. A Bernoulli on grey values is not a "
        "normalised density at all.",
    ),
    Question(
        "overfitting",
        "Does it overfit?",
        "The same estimator, with the same number of samples, on data the model has been fitted "
        "to and on data it has not.",
    ),
    Question(
        "divergence",
        "Did training diverge?",
        "NaN, infinite or absurd values, in the training history and in the model as it is now.",
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
