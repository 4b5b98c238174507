"""What aequitas says of the same tables; ``planted_bias.py`` runs it in an environment with pandas 2."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent))
from planted_models import LEVELS, THRESHOLD, draw, models


def unfair(table: pd.DataFrame, columns: list[str]) -> bool:
    from aequitas.bias import Bias
    from aequitas.fairness import Fairness
    from aequitas.group import Group

    crosstab, _ = Group().get_crosstabs(table, attr_cols=columns)
    bias = Bias().get_disparity_major_group(
        crosstab, original_df=table, check_significance=False, mask_significance=False
    )
    fairness = Fairness(tau=0.8).get_group_value_fairness(bias)
    return bool((fairness[["FNR Parity", "FPR Parity"]] == False).any().any())  # noqa: E712  # NaN is no verdict


def main(replicates: int, out: Path) -> None:
    with out.open("a", encoding="utf-8") as stream:
        for replicate, model in itertools.product(range(replicates), models()):
            drawn = draw(model, replicate)
            table = pd.DataFrame({name: pd.Series(drawn[name]).replace("", "(missing)") for name in LEVELS})
            for first, second in itertools.combinations(LEVELS, 2):
                table[f"{first}_{second}"] = table[first] + table[second]
            table["score"] = (drawn["probability"] >= THRESHOLD).astype(int)
            table["label_value"] = drawn["label"]
            alarms = {
                "aequitas 80 %": unfair(table, list(LEVELS)),
                "aequitas 80 %, pairs": unfair(
                    table, [*LEVELS, *(c for c in map(str, table) if "_" in c and c != "label_value")]
                ),
            }
            row = {"key": f"{model.kind}/{model.name}/{model.n}/{replicate}", "alarms": alarms}
            stream.write(json.dumps(row | {"kind": model.kind, "n": model.n}) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(int(sys.argv[1]), Path(sys.argv[2]))
    else:
        print("skipped: planted_bias.py --aequitas PYTHON runs this")
