"""Processor seconds of aequitas on a table of counts by four attributes; ``audit.py --aequitas`` runs this.

Its crosstabs, disparities and parities of every attribute, with its own significance tests off: it makes no
intervals. It needs pandas 2, so it has an environment of its own.
"""

from __future__ import annotations

import sys
import time

import pandas as pd


def main(path: str, rounds: int) -> None:
    from aequitas.bias import Bias
    from aequitas.fairness import Fairness
    from aequitas.group import Group

    table = pd.read_csv(path)
    attributes = [name for name in table if name not in ("score", "label_value")]
    spent = []
    for _ in range(rounds):
        before = time.process_time()
        crosstab, _ = Group().get_crosstabs(table, attr_cols=attributes)
        bias = Bias().get_disparity_major_group(
            crosstab, original_df=table, check_significance=False, mask_significance=False
        )
        Fairness(tau=0.8).get_group_value_fairness(bias)
        spent.append(time.process_time() - before)
    print(min(spent))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        main(sys.argv[1], int(sys.argv[2]))
    else:
        print("skipped: audit.py --aequitas PYTHON runs this")
