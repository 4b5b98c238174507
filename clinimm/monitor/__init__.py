"""Drift and feedback; filled by a later issue."""
