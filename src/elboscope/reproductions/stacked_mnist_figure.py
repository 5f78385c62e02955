r"""How evenly modes are met, over a training.

.. math:: \mathrm{KL}(\hat p \| \text{uniform}) - \frac{m - 1}{2n}

m modes met by n samples: the correction of Miller and Madow, without which looks at few samples
would seem worse than the last one, at many. A count of modes has none: it grows with n as long as
there are rare modes to be met.
"""

from __future__ import annotations

__all__ = ["corrected_kl", "plot_mode_kl"]

from matplotlib.figure import Figure

from elboscope.plots.style import BLUE, GREEN, GREY, ORANGE, RED, blank, legend_above

from .density_ratio_figure import curve
from .density_ratio_runs import Look
from .stacked_mnist_claims import Found
from .stacked_mnist_plan import MODELS, StackedPlan

COLOURS = dict(zip(MODELS, (RED, GREEN, BLUE, ORANGE, GREY), strict=True))


def plot_mode_kl(found: Found, plan: StackedPlan) -> Figure:
    """Draws the corrected KL of samples against the share of the training that is done.

    Args:
        found: Looks at all runs; lines are means over seeds.
        plan: Says how long each training is.
    """
    figure, axes = blank(520, 300)
    for model, runs in found.items():
        of = curve(runs, corrected_kl)
        done = of.step / plan.paces[model].steps
        axes.plot(done, of.mean, "-o", color=COLOURS[model], lw=1.6, ms=4, label=model)
    axes.set_xlabel("share of the training")
    axes.set_ylabel("KL(modes of samples ‖ uniform), nats")
    axes.set_ylim(bottom=0)
    legend_above(figure, axes, columns=5)
    return figure


def corrected_kl(row: Look) -> float:
    """Returns the KL of a look at samples, less what perfect ones would show for being few.

    Example:
        >>> round(corrected_kl({"samples: kl": 1.0, "samples: modes": 501, "num": 1000}), 6)
        0.75
    """
    return row["samples: kl"] - (row["samples: modes"] - 1) / (2 * row["num"])
