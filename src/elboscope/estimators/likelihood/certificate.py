r"""Whether an estimate of log p(x) is certified, and within how many nats.

On data that the model simulates, reverse annealing bounds log p(x) from above in expectation. The
distance from the estimate, made there with the very settings used for the real data, up to that
bound is w ± e over the simulated datapoints, so that the mean error of the estimate on such data
is at most

.. math:: c = \max(w, 0) + t_{0.975,\, n-1}\, e

with the confidence of an interval: it covers the noise of both sides, not only their mean gap. An
estimate is certified when c is within the tolerance and nothing that is seen on the *real* data
contradicts that they are like the simulated ones: importance sampling and AIS agree, the chains
move, and their weights are not those of one chain. It remains an assumption that the real data
are as easy as the simulated ones: no upper bound is known for them.

What no simulated datapoint shows is not in c. A region that sampler and chains both miss is seen
only through a z* that lies in it, so that one holding less than about 3/n of the posterior mass
may go unseen: with a mode of 3 % that q never visits, n = 30 and paths from q, nine of twenty runs
were certified, to a few thousandths of a nat, where the mean error was 0.03; of 26 runs with paths
from the prior 12 were certified, all of them rightly. A certificate with paths from q says so.

Widths fall like 1/T once the chains mix and errors like 1/√n; what more is to be spent follows
from these two laws.
"""

from __future__ import annotations

__all__ = ["Certificate", "certify"]

import math
from dataclasses import dataclass

from elboscope.core import Estimate, paired_difference

from .annealing import PathName
from .bidirectional import Sandwich

# An error is significant from this many of its own size; used where nothing is to be covered.
ERRORS = 2.0
# Where q misses one of two modes, the upper bound says so only at the simulated x whose z* lies in
# it: with six of them it may not be seen at all, with twenty it is.
FEWEST = 20
# Two bounds that cross by this many errors are not noise: the kernels or the errors are wrong.
CROSSED = 4.0
# Tuned for 0.65; a quarter of the proposals accepted means that steps fit almost nowhere.
LOW_ACCEPTANCE = 0.25
# Fewer effective chains than this, of four or more, on data where simulated data keep their chains.
LONE_CHAIN = 1.5
MANY_DIVERGENT = 1e-3
# No more than this many times as much is advised at once: what comes then shows the next step.
MOST = 10.0
# A sandwich this wide, in nats, from q: the posterior reaches where q does not, the prior does.
FAR = 1.0


@dataclass(frozen=True, eq=False)
class Certificate:
    """The verdict on an estimate of log p(x).

    Attributes:
        certified: Whether the mean error on model-like data is within the tolerance.
        tolerance: What was asked for, in nats.
        within: c, in nats: what the width and its error allow to say, certified or not.
        width: Upper bound at 2T − estimate, per simulated datapoint.
        reasons: Why it is not certified; empty if it is.
        more: The code that spends as much more as the reasons ask for; empty if certified.
        path: The density at β = 0 of the annealing that was certified.
    """

    certified: bool
    tolerance: float
    within: float
    width: Estimate
    reasons: tuple[str, ...] = ()
    more: str = ""
    path: PathName = "prior"

    def __str__(self) -> str:
        if self.certified:
            n = len(self.width.values)
            return (
                f"certified to ±{self.within:.3f} nats on model-like data (upper bound − estimate "
                f"on simulated x: {_show(self.width)} nats, n={n}); that the real data are as "
                f"easy is assumed{self._unseen(n)}"
            )
        spend = f"; spend this much more: {self.more}" if self.more else ""
        return f"not certified, because {'; '.join(self.reasons)}{spend}"

    def _unseen(self, n: int) -> str:
        """What paths from q cannot show: by the rule of three, with 95 % confidence."""
        if self.path != "posterior":
            return ""
        return (
            f", and a region of less than {3 / n:.0%} of the mass that q never visits is not seen"
        )


def certify(
    log_px: Estimate,
    proposals: Estimate | None,
    annealed: Estimate,
    simulated: Estimate,
    sandwich: Sandwich,
    tolerance: float,
) -> Certificate:
    """Judges an estimate by its width on simulated data and by what contradicts it on real data.

    Args:
        log_px: The estimate on the real data.
        proposals: Its part by importance sampling, on the real data.
        annealed: Its part by AIS, on the real data.
        simulated: The estimate on the simulated data.
        sandwich: The bounds on the simulated data.
        tolerance: Nats.
    """
    width = paired_difference(sandwich.upper_doubled, simulated, "upper bound − estimate")
    within = _within(width)
    reasons = [
        *_too_wide(width, within, tolerance),
        *_disagreement(log_px, proposals, annealed, tolerance),
        *_chains(annealed, sandwich),
    ]
    more = _more(log_px, width, within, sandwich, tolerance) if reasons else ""
    return Certificate(not reasons, tolerance, within, width, tuple(reasons), more, sandwich.path)


def _within(width: Estimate) -> float:
    return max(width.mean, 0.0) + _margin(width)


def _margin(width: Estimate) -> float:
    """The half-width of a 95 % interval of the mean, by Student's t: few data are simulated."""
    from scipy.special import stdtrit

    n = len(width.values)
    return float(stdtrit(n - 1, 0.975)) * width.stderr if n > 1 else math.inf


def _too_wide(width: Estimate, within: float, tolerance: float) -> list[str]:
    n = len(width.values)
    if n < FEWEST:
        return [
            f"n={n} simulated datapoints are too few for the error of a mean (at least {FEWEST})"
        ]
    if not math.isfinite(within):
        return ["the bounds on simulated data are not finite"]
    if width.mean < -CROSSED * width.stderr:
        return [
            f"on simulated data the bounds cross: upper bound − estimate is {_show(width)} nats, "
            "and such errors cannot be believed"
        ]
    if within <= tolerance:
        return []
    return [
        f"on simulated data (n={n}) upper bound at 2T − estimate is "
        f"{_show(width)} nats, hence within ±{within:.3g} and not ±{tolerance:g}"
    ]


def _disagreement(
    log_px: Estimate, proposals: Estimate | None, annealed: Estimate, tolerance: float
) -> list[str]:
    """Both parts are lower bounds: if one lies far above, the other misses what lies between."""
    if proposals is None:
        return []
    apart = paired_difference(annealed, proposals, "AIS − importance sampling")
    better = annealed if apart.mean > 0 else proposals
    lost = paired_difference(better, log_px, "lost")
    if not lost.mean - ERRORS * _error(lost) > tolerance:
        return []
    high, low = ("AIS", "importance sampling") if apart.mean > 0 else ("importance sampling", "AIS")
    return [
        f"on these data {high} finds {abs(apart.mean):.3g} ± {_error(apart):.2g} nats more than "
        f"{low}"
    ]


def _error(difference: Estimate) -> float:
    return difference.stderr if math.isfinite(difference.stderr) else 0.0


def _chains(annealed: Estimate, sandwich: Sandwich) -> list[str]:
    """What the chains say, of the real data and of the simulated ones."""
    reasons = []
    runs = (annealed, sandwich.lower_doubled, sandwich.upper_doubled)
    accepted = min(_mean(run, "acceptance") for run in runs)
    if accepted < LOW_ACCEPTANCE:
        reasons.append(f"acceptance collapsed to {accepted:.0%} of the HMC proposals")
    share = max(_divergent_share(run) for run in runs)
    if share > MANY_DIVERGENT:
        reasons.append(f"{share:.2%} of the transitions diverged and were rejected")
    C = annealed.num_chains or 1
    real, model_like = (_median(run, "ess") for run in (annealed, sandwich.lower))
    if C >= 4 and real < LONE_CHAIN and real < 0.5 * model_like:
        reasons.append(
            f"one chain carries the weight: ESS {real:.1f} of {C} chains, {model_like:.1f} on "
            "simulated data, which are easier"
        )
    return reasons


def _divergent_share(run: Estimate) -> float:
    transitions = (run.num_chains or 1) * max(1, (run.num_temperatures or 1) - 1)
    return _mean(run, "divergent") / transitions


def _more(
    log_px: Estimate, width: Estimate, within: float, sandwich: Sandwich, tolerance: float
) -> str:
    """Half of the tolerance for the width, which falls like 1/T, half for its error, like 1/√n."""
    goal, n = tolerance / 2, len(width.values)
    T = sandwich.lower.num_temperatures or 1
    factor = min(max(2.0, width.mean / goal), MOST)
    options: dict[str, object] = {"num_temperatures": _round_up(T * factor)}
    if log_px.num_samples is not None:
        K = log_px.num_samples
        options["num_samples"] = _round_up(K * factor) if width.mean > goal else K
    ratio = (within - max(width.mean, 0.0)) / goal
    options["num_simulated"] = _round_up(max(float(FEWEST), n * min(max(ratio, 1.0) ** 2, MOST)))
    if _stuck(sandwich, tolerance):
        options["num_leapfrog"] = 2 * sandwich.num_leapfrog
    if sandwich.width.mean > FAR and sandwich.path == "posterior":
        options["path"] = "prior"
    arguments = ", ".join(f"{name}={value!r}" for name, value in options.items())
    return f"es.log_likelihood(model, x, {arguments})"


def _stuck(sandwich: Sandwich, tolerance: float) -> bool:
    """Whether doubling T left the width where it was: then more T alone is not the remedy."""
    before, after = sandwich.width_before, sandwich.width
    step = paired_difference(before, after, "narrowed")
    return after.mean > tolerance and step.mean + ERRORS * _error(step) < 0.3 * before.mean


def _round_up(value: float) -> int:
    """Two significant digits, upwards."""
    unit: int = 10 ** max(0, math.floor(math.log10(value)) - 1)
    return int(math.ceil(value / unit - 1e-9) * unit)


def _mean(estimate: Estimate, key: str) -> float:
    """The mean of what is known; 1 for the acceptance of no transition at all."""
    mean = estimate.diagnostics[key].double().nanmean().item()
    return 1.0 if math.isnan(mean) else mean


def _median(estimate: Estimate, key: str) -> float:
    return estimate.diagnostics[key].double().median().item()


def _show(width: Estimate) -> str:
    return f"{round(width.mean, 3) + 0.0:.3f} ± {width.stderr:.3f}".replace("-", "−")
