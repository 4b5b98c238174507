"""Groups, policy and verdicts: tables in, tables out, no torch."""
