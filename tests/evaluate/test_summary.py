from __future__ import annotations

import re

import numpy as np
import pytest

from clinimm.config import EvaluateConfig
from clinimm.evaluate.assemble import Task, evaluate_tables
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.summary import score_predictions, summary_lines

CONFIG = EvaluateConfig(bootstraps=100)


def test_the_line_of_an_external_validation(tables):
    result = score_predictions(tables.run_tables(n=135).predictions, CONFIG)
    pattern = r"AUROC 0\.\d{3} \(95 % interval 0\.\d\d to \d\.\d\d\), n = 135 \(54 positive\)"
    assert re.fullmatch(pattern, result["line"])


def test_one_class_elsewhere_is_said_in_words(tables):
    result = score_predictions(tables.frame(np.zeros(30), np.linspace(0, 1, 30)), CONFIG)
    assert result["line"].startswith("AUROC not estimable (only one class")


def test_the_threshold_that_ships_is_used_elsewhere(tables):
    frame = tables.frame(np.repeat([0.0, 1.0], 20), np.linspace(0, 1, 40))
    point = OperatingPoint(0.6, "", fits={(0, 0): 0.0})
    result = score_predictions(frame, CONFIG, operating_point=point)
    assert result["fused"]["sensitivity"]["value"] == pytest.approx(
        np.mean(np.linspace(0, 1, 40)[20:] >= 0.6)
    )


def test_terminal_table_names_every_subset_and_control_and_ends_with_the_verdict(tables):
    run = tables.run_tables(n=100)
    metrics = evaluate_tables(run, Task("d", "binary", ("severe",)), CONFIG, 0).metrics
    text = "\n".join(summary_lines(metrics))
    for words in ("ehr+notes", "single:ehr", "missingness_only", "sensitivity", "Recommended model"):
        assert words in text
    assert metrics["verdict"]["sentence"] in text
    assert max(len(line) for line in text.splitlines()[:20]) < 130
