"""The three answers of a rule, and what an audit's exit status means."""

from __future__ import annotations

PASS, FAIL, INCONCLUSIVE = "pass", "fail", "inconclusive"
#: 0 nothing blocks, 1 a rule is broken, 2 an undecided rule blocks, 3 bad input or policy,
#: 4 the evidence is not what these data, policy and code give.
EXIT_PASS, EXIT_FAIL, EXIT_INCONCLUSIVE, EXIT_BAD_INPUT, EXIT_OTHER_EVIDENCE = 0, 1, 2, 3, 4
