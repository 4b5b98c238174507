"""Heads, losses and targets, one file a task."""
