"""Figures of every group and intersection from arrays: exact, vectorised, no torch, no tables."""
