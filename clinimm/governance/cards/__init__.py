"""Evidence documents made from ``audit.json``: no figure in them is written by hand."""
