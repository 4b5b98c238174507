"""Attributions and their checks."""
