import numpy as np
import pytest

from clinimm.simulate.tissue_plan import StainPlan, TissuePlan, plan_tissue


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pixels": 8}, "expected 64 to 8192 pixels"),
        ({"um_per_pixel": 40.0}, "of 0.1 to 2 um"),
        ({"stains": (StainPlan("KI68"),)}, r"unknown markers \['KI68'\]; known are KI67"),
        ({"stains": (StainPlan("KI67"), StainPlan("KI67"))}, "each stands once"),
    ],
)
def test_wrong_plans_say_what_was_expected(wrong, message):
    with pytest.raises(ValueError, match=message):
        TissuePlan(**wrong)


def test_knobs_do_not_disturb_what_else_is_drawn():
    crowded, sparse, tossed = (
        plan_tissue(np.random.default_rng(4), 256, (), crowded) for crowded in (True, False, None)
    )
    assert crowded.lymphocytes_per_mm2 > 2 * sparse.lymphocytes_per_mm2
    assert crowded.seed == sparse.seed == tossed.seed
    assert crowded.epithelium == sparse.epithelium == tossed.epithelium
    assert tossed.lymphocytes_per_mm2 in (crowded.lymphocytes_per_mm2, sparse.lymphocytes_per_mm2)
