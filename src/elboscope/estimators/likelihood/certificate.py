r"""Whether an estimate of log p(x) is certified, and within how many nats.

On data that the model simulates, reverse annealing bounds log p(x) from above in expectation. The
distance from the estimate, made there with the very settings used for the real data, up to that
bound is the gap g of a simulated datapoint. Thousands of pairs (x, z*) are scored by q alone first
(:mod:`.simulated_pairs`); a share s of them lies far beyond the others, where q hardly goes, and is
a stratum of its own. Some of either stratum are annealed, and

.. math:: w = (1 - s)\, \bar g_{\mathrm{others}} + s\, \bar g_{\mathrm{far}}, \qquad
          c = \max(w, 0) + t_{0.975,\, n-1}\, e

where e is the error of w: the mean error of the estimate on such data is at most c, with the
confidence of an interval; it covers the noise of both sides, not only their mean gap. An estimate
is certified when c is within the tolerance and nothing that is seen on the *real* data contradicts
that they are like the simulated ones: importance sampling and AIS agree, the chains move, and their
weights are not those of one chain. It remains an assumption that the real data are as easy as the
simulated ones: no upper bound is known for them.

What no simulated pair shows is not in c. A region that sampler and chains both miss is seen only
through a z* that lies in it, so that nothing is said of a share of up to 3/n of model-like data
(the rule of three, 95 %), n being the pairs.

Widths fall like 1/T once the chains mix and errors like 1/√n; what more is to be spent follows
from these two laws.
"""

from __future__ import annotations

__all__ = ["Certificate", "Strata", "certify"]

import math
from dataclasses import dataclass
from typing import NamedTuple

from elboscope.core import Estimate, paired_difference

from .annealing import PathName
from .bidirectional import Sandwich
from .simulated_pairs import ScoredPairs

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
        width: w, the stratified mean of upper bound at 2T − estimate over simulated data.
        width_stderr: e, its error.
        others: The gaps of simulated datapoints that do not lie far beyond the others.
        far: The gaps of those that do, or ``None`` where q scores nothing.
        share: s, the share of the latter.
        num_pairs: n, the simulated pairs that were looked at: nothing is said of a share of 3/n.
        reasons: Why it is not certified; empty if it is.
        more: The code that spends as much more as the reasons ask for; empty if certified.
        path: The density at β = 0 of the annealing that was certified.
    """

    certified: bool
    tolerance: float
    within: float
    width: float
    width_stderr: float
    others: Estimate
    far: Estimate | None
    share: float
    num_pairs: int
    reasons: tuple[str, ...] = ()
    more: str = ""
    path: PathName = "prior"

    def __str__(self) -> str:
        if self.certified:
            return (
                f"certified to ±{_up(self.within)} nats on model-like data (upper bound − estimate "
                f"on simulated x: {_show(self.width, self.width_stderr)} nats, {self._count()}); "
                f"nothing is said of a share of up to {3 / self.num_pairs:.2%} of model-like data; "
                "that the real data are as easy is assumed"
            )
        spend = f"; spend this much more: {self.more}" if self.more else ""
        return f"not certified, because {'; '.join(self.reasons)}{spend}"

    def _count(self) -> str:
        n = len(self.others.values)
        return f"n={n}" if self.far is None else f"n={n} and the {len(self.far.values)} farthest"


class Strata(NamedTuple):
    """Gaps on simulated data in two strata, and what AIS finds beyond importance sampling there.

    See :class:`Certificate`.
    """

    others: Estimate
    far: Estimate | None
    pairs: ScoredPairs | None
    apart: Estimate | None = None

    @property
    def share(self) -> float:
        """The share of the pairs that lie far beyond the others."""
        return 0.0 if self.pairs is None or self.far is None else self.pairs.share

    @property
    def num_pairs(self) -> int:
        """All simulated pairs that were looked at."""
        return len(self.others.values) if self.pairs is None else len(self.pairs.excess)

    def mean(self) -> tuple[float, float]:
        """The stratified mean and its error."""
        s, strata = self.share, [(1 - self.share, self.others)]
        strata += [(s, self.far)] if self.far is not None and s else []
        value = sum(weight * gaps.mean for weight, gaps in strata)
        errors = [weight * _error(gaps) for weight, gaps in strata]
        n = len(self.others.values)
        return value, math.hypot(*errors) if n > 1 else math.inf


def certify(
    log_px: Estimate,
    proposals: Estimate | None,
    annealed: Estimate,
    strata: Strata,
    sandwich: Sandwich,
    tolerance: float,
) -> Certificate:
    """Judges an estimate by its width on simulated data and by what contradicts it on real data.

    Args:
        log_px: The estimate on the real data.
        proposals: Its part by importance sampling, on the real data.
        annealed: Its part by AIS, on the real data.
        strata: The gaps on simulated data.
        sandwich: The bounds on simulated data.
        tolerance: Nats.
    """
    width, error = strata.mean()
    within = max(width, 0.0) + _quantile(len(strata.others.values)) * error
    reasons = [
        *_too_wide(strata, within, tolerance),
        *_disagreement(proposals, annealed, strata.apart, tolerance),
        *_chains(annealed, sandwich),
    ]
    more = _more(log_px, strata, within, sandwich, tolerance) if reasons else ""
    return Certificate(
        not reasons, tolerance, within, width, error, strata.others, strata.far, strata.share,
        strata.num_pairs, tuple(reasons), more, sandwich.path,
    )  # fmt: skip


def _quantile(n: int) -> float:
    """Student's t: few data are annealed."""
    from scipy.special import stdtrit

    return float(stdtrit(n - 1, 0.975)) if n > 1 else 1.0


def _too_wide(strata: Strata, within: float, tolerance: float) -> list[str]:
    n, (width, error) = len(strata.others.values), strata.mean()
    if n < FEWEST:
        return [
            f"n={n} simulated datapoints are too few for the error of a mean (at least {FEWEST})"
        ]
    if not math.isfinite(within):
        return ["the bounds on simulated data are not finite"]
    if width < -CROSSED * error:
        return [
            f"on simulated data the bounds cross: upper bound − estimate is {_show(width, error)} "
            "nats, and such errors cannot be believed"
        ]
    if within <= tolerance:
        return []
    far = "" if strata.far is None or not _far_decides(strata, within) else _of_the_far(strata)
    return [
        f"on simulated data (n={n}) upper bound at 2T − estimate is "
        f"{_show(width, error)} nats, hence within ±{within:.3g} and not ±{tolerance:g}{far}"
    ]


def _far_decides(strata: Strata, within: float) -> bool:
    """Whether most of c comes from the pairs far beyond the others."""
    others = max(strata.others.mean, 0.0) + ERRORS * _error(strata.others)
    return others < 0.5 * within


def _of_the_far(strata: Strata) -> str:
    assert strata.far is not None
    return (
        f" ({strata.share:.1%} of model-like data lie where q hardly goes: "
        f"{strata.far.mean:.3g} nats apart there, {strata.others.mean:.3g} elsewhere)"
    )


def _disagreement(
    proposals: Estimate | None, annealed: Estimate, like: Estimate | None, tolerance: float
) -> list[str]:
    """Two samplers that differ more on the real data than on simulated ones: these are easier."""
    if proposals is None or like is None:
        return []
    apart = paired_difference(annealed, proposals, "AIS − importance sampling")
    error = math.hypot(_error(apart), _error(like))
    if not abs(apart.mean) - abs(like.mean) - ERRORS * error > tolerance:
        return []
    low, high = ("importance sampling", "AIS")[:: 1 if apart.mean > 0 else -1]
    return [
        f"on these data {high} finds {abs(apart.mean):.3g} ± {_error(apart):.2g} nats more than "
        f"{low}, and on simulated ones they are {abs(like.mean):.2g} apart"
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
    log_px: Estimate, strata: Strata, within: float, sandwich: Sandwich, tolerance: float
) -> str:
    """Half of the tolerance for the width, which falls like 1/T, half for its error, like 1/√n."""
    goal, n, (width, _) = tolerance / 2, len(strata.others.values), strata.mean()
    T = sandwich.lower.num_temperatures or 1
    factor = min(max(2.0, width / goal), MOST)
    options: dict[str, object] = {"num_temperatures": _round_up(T * factor)}
    if log_px.num_samples is not None:
        K = log_px.num_samples
        options["num_samples"] = _round_up(K * factor) if width > goal else K
    ratio = (within - max(width, 0.0)) / goal if math.isfinite(within) else MOST
    options["num_simulated"] = _round_up(max(float(FEWEST), n * min(max(ratio, 1.0) ** 2, MOST)))
    if _stuck(sandwich, tolerance):
        options["num_leapfrog"] = 2 * sandwich.num_leapfrog
    apart = [sandwich.width.mean, *([strata.far.mean] if strata.far is not None else [])]
    if max(apart) > FAR and sandwich.path == "posterior":
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


def _show(width: float, error: float) -> str:
    return f"{round(width, 3) + 0.0:.3f} ± {_up(error)}".replace("-", "−")


def _up(nats: float) -> str:
    """Three digits, rounded upwards: no error is printed as zero."""
    return f"{max(math.ceil(nats * 1000 - 1e-9), 1) / 1000:.3f}" if math.isfinite(nats) else "inf"
