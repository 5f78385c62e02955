"""How much a diagnosis may cost: samples, datapoints, mixture components and seconds.

A budget is a promise about time, so it must hold for big data and slow decoders too. It lists
the numbers that are asked for; what the clock allows is decided from a few timed decoder passes
(:mod:`.plan`), and what was given up is written down beside the numbers, never hidden.
"""

from __future__ import annotations

__all__ = ["QUICK", "STANDARD", "THOROUGH", "Budget", "budget_named"]

from dataclasses import dataclass, replace
from typing import Literal

from elboscope.core import InputError
from elboscope.estimators.latents.density import DENSITIES, DensityFamily
from elboscope.estimators.likelihood.log_likelihood import NUM_FARTHEST
from elboscope.estimators.likelihood.simulated_pairs import NUM_SAMPLES as PAIR_SAMPLES

BudgetName = Literal["quick", "standard", "thorough"]

# Fewer datapoints than this give shares (of k̂, say) with an error above ten percent points:
# the clock may not cut deeper, a quantity that is still too slow is skipped instead.
MIN_DATA = 100
# Prior sampling is there to show how badly it does: a hundred datapoints show it.
PRIOR_DATA = 100
# log p̂ of training data only stands beside the difference of the ELBOs, which decides.
WEIGHED_TRAIN = 200
# Leapfrog steps of each transition; and what a step costs in decoder passes, with its gradient.
NUM_LEAPFROG, STEP_PASSES = 10, 3
# What a step costs besides, in seconds: of small decoders it is the most.
STEP_SECONDS = 8e-4
# For each simulated datapoint AIS runs forward and in reverse, with T and with 2T temperatures.
SANDWICH_RUNS = 6
# Below these AIS is not cut any further: a certificate needs twenty simulated datapoints.
MIN_ANNEALED, MIN_SIMULATED = 10, 20
# The search for a datapoint's best posterior: steps, their samples, and what reports each bound.
NUM_STEPS, STEP_SAMPLES, REPORT_SAMPLES = 250, 16, 5000
# What other families cost, in searches of a diagonal Gaussian, where they begin.
SEARCHES = {None: 0, "full": 2, "flow": 6}
# A full covariance takes samples and memory that grow with the number of latents.
LARGEST_FULL_DIM = 128
# With fewer datapoints the parts of the gap have an error as large as they are.
MIN_OPTIMISED = 10
# What a fitted prior, a classifier with a flow and mixtures, and a step of an LSTM for each latent
# take, in seconds of one core; none of it decodes.
PRIOR_SECONDS, RATIO_SECONDS, LSTM_SECONDS = 1.0, 2.0, 0.4
DENSITY_WORDS: dict[DensityFamily, str]
DENSITY_WORDS = {"gmm": "Gaussian mixtures", "maf": "a flow", "lstm": "an LSTM"}


@dataclass(frozen=True)
class Budget:
    """What a diagnosis may use.

    Args:
        name: "quick", "standard" or "thorough".
        num_samples: K of importance sampling and of prior sampling, per datapoint.
        num_elbo_samples: Samples of the ELBO and of the reconstruction, per datapoint.
        num_data: Evaluation datapoints; more are subsampled.
        num_train: Training datapoints, for the comparison with the evaluation data.
        num_mixture: Components of the aggregate posterior (training data where given).
        max_seconds: What importance sampling may take, by the timing of a few decoder passes;
            beyond it datapoints are left out, down to 100, and then quantities.
        num_temperatures: T of AIS; 0 leaves AIS and the certificate out.
        num_chains: Chains of AIS per datapoint.
        num_annealed: Evaluation datapoints for AIS, of those evaluated.
        num_simulated: Simulated datapoints that are annealed for the certificate, besides as many
            again, at most 20, that lie where q hardly goes.
        num_pairs: Simulated pairs among which the latter are found.
        num_optimised: Evaluation datapoints whose best posteriors are searched; 0 leaves the
            inference gap out.
        num_optimised_train: Training datapoints of which the same is searched.
        richer: A family set against the diagonal one: ``"full"``, ``"flow"`` or ``None``.
        num_prior: Draws of the prior among which the least covered are searched, and with a prior
            fitted to q(z) beside; 0 leaves both out.
        ratio_steps: Gradient steps of the classifier and of the density networks for
            KL(q(z) ‖ p(z)); 0 leaves these out.
        densities: The density models that are fitted to q(z).
        num_scored: Images whose samples and reconstructions are scored; 0 leaves that out.
        critic_steps: Steps of the independent critics of samples; 0 leaves these out.
    """

    name: BudgetName
    num_samples: int
    num_elbo_samples: int
    num_data: int
    num_train: int
    num_mixture: int
    max_seconds: float
    num_temperatures: int = 0
    num_chains: int = 10
    num_annealed: int = 40
    num_simulated: int = 40
    num_pairs: int = 5000
    num_optimised: int = 0
    num_optimised_train: int = 0
    richer: Literal["full", "flow"] | None = None
    num_prior: int = 0
    ratio_steps: int = 0
    densities: tuple[DensityFamily, ...] = ()
    num_scored: int = 0
    critic_steps: int = 0

    def describe(self) -> str:
        """Says what will be spent, in one line to be printed before starting."""
        return (
            f"budget {self.name}: up to {self.num_data} datapoints × K={self.num_samples} "
            f"importance samples, {self.num_train} training datapoints, "
            f"a mixture of up to {self.num_mixture}{self._annealing()}{self._optimising()}"
            f"{self._matching()}{self._scoring()}; about "
            f"{self.max_seconds:.0f} s of sampling at most"
        )

    def _annealing(self) -> str:
        if not self.num_temperatures:
            return ""
        return (
            f", AIS of {self.num_annealed} datapoints and of {self.num_simulated} simulated ones "
            f"with {self.num_temperatures} temperatures × {self.num_chains} chains"
        )

    def _optimising(self) -> str:
        if not self.num_optimised:
            return ""
        more = f" and {self.num_optimised_train} training ones" if self.num_optimised_train else ""
        return f", the best posteriors of {self.num_optimised} datapoints{more}"

    def _matching(self) -> str:
        fits = ["a fitted prior"] * bool(self.num_prior)
        fits += ["a classifier"] * bool(self.ratio_steps)
        fits += [DENSITY_WORDS[name] for name in self.densities if self.ratio_steps]
        drawn = f", the least covered of {self.num_prior} prior draws" if self.num_prior else ""
        return drawn + (f", of q(z): {', '.join(fits)}" if fits else "")

    def _scoring(self) -> str:
        if not self.num_scored:
            return ""
        critics = ", with independent critics" if self.critic_steps else ""
        return f", scores of samples against up to {self.num_scored} images{critics}"

    def expected_seconds(
        self, seconds_per_sample: float, n: int | None = None, n_train: int = 0
    ) -> float:
        """Returns the expected time of everything that decodes K samples per datapoint.

        Args:
            seconds_per_sample: Time to decode and score one z, as timed on the machine.
            n: Evaluation datapoints; by default as many as the budget allows.
            n_train: Training datapoints.
        """
        n = self.num_data if n is None else min(n, self.num_data)
        weighed = n + min(n, PRIOR_DATA) + min(n_train, WEIGHED_TRAIN, self.num_train)
        importance = self.num_samples * weighed
        return seconds_per_sample * (importance + self.num_elbo_samples * 2 * n)

    def annealing_seconds(
        self, seconds_per_sample: float, n: int, num_simulated: int, num_pairs: int = 0
    ) -> float:
        """Returns the expected time of AIS on n datapoints and of the sandwich.

        Args:
            seconds_per_sample: Time to decode and score one z in batches of the chains' size.
            n: Datapoints to anneal.
            num_simulated: Simulated datapoints to anneal, those far beyond the others apart.
            num_pairs: Simulated pairs that q scores.
        """
        steps = self.num_temperatures * NUM_LEAPFROG
        sandwiched = num_simulated + min(num_simulated, NUM_FARTHEST)
        rows = self.num_chains * (n + SANDWICH_RUNS * sandwiched)
        besides = STEP_SECONDS * (1 + 2 * SANDWICH_RUNS)
        scoring = seconds_per_sample * num_pairs * (PAIR_SAMPLES + 1)
        return steps * (seconds_per_sample * STEP_PASSES * rows + besides) + scoring

    def optimising_seconds(self, seconds_per_sample: float, n: int, families: int = 1) -> float:
        """Returns the expected time of the search for the best posteriors of n datapoints.

        Args:
            seconds_per_sample: Time to decode and score one z, as timed on the machine.
            n: Datapoints, training data included.
            families: What the families besides ``richer`` cost, in searches of a diagonal Gaussian.
        """
        if not n:
            return 0.0
        searches = families + SEARCHES[self.richer]
        passes = NUM_STEPS * STEP_SAMPLES * STEP_PASSES + 2 * REPORT_SAMPLES
        besides = NUM_STEPS * STEP_SECONDS * searches
        return seconds_per_sample * n * (searches * passes + REPORT_SAMPLES) + besides

    def matching_seconds(self, dim: int) -> float:
        """Returns the expected time of what is fitted to q(z): it grows with the latents alone.

        Args:
            dim: Latents.
        """
        fitted = PRIOR_SECONDS * (1 + dim / 100) if self.num_prior else 0.0
        steps = self.ratio_steps / 300
        compared = RATIO_SECONDS * (1 + dim / 50) * (1 + steps) if steps else 0.0
        lstm = LSTM_SECONDS * dim * steps if "lstm" in self.densities else 0.0
        return fitted + compared + lstm

    def for_latents(self, dim: int) -> Budget:
        """Returns the budget without a full covariance where there are too many latents for one."""
        too_many = self.richer == "full" and dim > LARGEST_FULL_DIM
        return replace(self, richer=None) if too_many else self

    def affordable(self, seconds_per_sample: float, n: int, n_train: int = 0) -> float:
        """Returns the share (≤ 1) of the datapoints that the time allows."""
        expected = self.expected_seconds(seconds_per_sample, n, n_train)
        return min(1.0, self.max_seconds / expected) if expected > 0 else 1.0


QUICK = Budget(
    "quick",
    1000,
    32,
    200,
    200,
    2000,
    30.0,
    20,
    8,
    20,
    20,
    num_optimised=30,
    num_prior=3000,
    num_scored=800,
)
STANDARD = Budget(
    "standard", 5000, 100, 1000, 500, 10_000, 240.0, 50, 10, 40, 30,
    num_optimised=40, richer="full", num_prior=10_000, ratio_steps=300, densities=("gmm", "maf"),
    num_scored=2000,
)  # fmt: skip
THOROUGH = Budget(
    "thorough", 20_000, 200, 5000, 2000, 60_000, 4 * 3600.0, 500, 16, 200, 100,
    num_optimised=200, num_optimised_train=200, richer="flow", num_prior=100_000,
    ratio_steps=2000, densities=DENSITIES, num_scored=10_000, critic_steps=300,
)  # fmt: skip
_BUDGETS = {budget.name: budget for budget in (QUICK, STANDARD, THOROUGH)}


def budget_named(name: str | Budget) -> Budget:
    """Returns the budget of a name; a budget itself passes through.

    Raises:
        InputError: Not a name of a budget.

    Example:
        >>> budget_named("quick").num_samples
        1000
    """
    if isinstance(name, Budget):
        return name
    for budget in _BUDGETS.values():
        if budget.name == name:
            return budget
    raise InputError("budget", expected=" or ".join(map(repr, _BUDGETS)), got=repr(name))
