"""The SNR figure at its smallest scale, resumed, and verdicts on hand-made ratios."""

import json
import math
from collections.abc import Mapping

import pytest

from elboscope.core import InputError
from elboscope.estimators.gradients.result import Slope
from elboscope.reproductions.frame.claims import Published, references
from elboscope.reproductions.frame.experiment import reproduce
from elboscope.reproductions.frame.sitting import Options, Unfinished
from elboscope.reproductions.rainforth2018.snr import (
    EXPERIMENT,
    NAME,
    OBJECTIVES,
    ORDER,
    SMOKE,
    exponent,
    order_claims,
)

HALF = Published(0.5, "a theorem")
PLAN = SMOKE.training


@pytest.mark.slow
def test_smoke_run_is_resumed_and_decides_nothing(tmp_path) -> None:
    with pytest.raises(Unfinished, match="Continue with the same command"):
        reproduce(EXPERIMENT, "smoke", out=tmp_path, options=Options(slice_seconds=0.0))
    stages = []
    found = reproduce(
        EXPERIMENT,
        "smoke",
        out=tmp_path,
        options=Options(resume=True),
        progress=lambda stage, done, total: stages.append(stage),
    )
    assert "toy" in stages
    rows = {(row.label, row.quantity, row.epochs): row for row in found.rows}
    slope = rows["toy, near", "decoder, slope in K", None]
    assert abs(slope.value - 0.5) < 4 * slope.error
    assert slope.published == references(NAME)["decoder, slope in K"]
    assert rows["toy, far", "decoder, slope in K", None].published is None
    for epoch in PLAN.epochs:
        vae, iwae = (
            rows[name, "encoder SNR (root mean square)", epoch] for name in ("VAE", "IWAE")
        )
        assert vae.value - iwae.value > 4 * math.hypot(vae.error, iwae.error)
    assert {claim.verdict for claim in found.claims} == {"undecided"}
    assert set(found.figures) == {"toy-near-encoder", "toy-near-decoder", "training-encoder"}
    assert found.provenance["epochs"] == PLAN.epochs[-1]
    saved = json.loads(found.save(tmp_path).read_text())
    assert len(saved["claims"]) == 4 + len(ORDER) - 1
    with pytest.raises(InputError, match="--resume"):
        reproduce(EXPERIMENT, "smoke", out=tmp_path)


def made(
    snr: Mapping[str, float], error: float = 0.01
) -> Mapping[str, dict[int, dict[str, float]]]:
    """Rows of one run with these ratios at each epoch."""
    return {
        name: {
            epoch: {
                "snr_corrected": value,
                "snr_corrected_low": value * (1 - 1.96 * error),
                "snr_corrected_high": value * (1 + 1.96 * error),
            }
            for epoch in PLAN.epochs
        }
        for name, value in snr.items()
    }


def test_order_is_reproduced_contradicted_or_undecided() -> None:
    run = made(dict(zip(ORDER, (4.0, 2.0, 2.01, 3.0), strict=True)))
    assert [claim.verdict for claim in order_claims([run], PLAN)] == [
        "reproduced",
        "undecided",
        "contradicted",
    ]
    claim = order_claims([run], PLAN)[0]
    assert claim.value == pytest.approx(math.log(2))
    assert claim.error == pytest.approx(0.01 * math.sqrt(2), rel=1e-6)


def test_seeds_that_disagree_decide_nothing() -> None:
    up, down = (
        made(dict(zip(ORDER, v, strict=True))) for v in ((4.0, 3.0, 2.0, 1.0), (1.0, 2.0, 3.0, 4.0))
    )
    assert {claim.verdict for claim in order_claims([up, down], PLAN)} == {"undecided"}


def test_ratio_without_signal_decides_nothing() -> None:
    run = made(dict(zip(ORDER, (4.0, 2.0, 1.0, 0.0), strict=True)))
    assert order_claims([run], PLAN)[-1].verdict == "undecided"


def test_exponents_agree_within_the_tolerance() -> None:
    pairs = {
        (0.48, 0.01): "reproduced",
        (0.46, 0.03): "undecided",
        (0.4, 0.01): "contradicted",
        (math.nan, math.nan): "undecided",
    }
    for (value, stderr), verdict in pairs.items():
        assert exponent("a law", Slope(value, stderr), HALF).verdict == verdict


def test_budgets_are_equal() -> None:
    for objective in OBJECTIVES.values():
        outer = getattr(objective, "num_outer", 1)
        assert outer * objective.num_samples == 64
