"""``clinimm audit-table``: any table of predictions with demographics in, verdict and evidence out."""
