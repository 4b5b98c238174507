"""Judges predictions: tables in, tables out, no torch."""
