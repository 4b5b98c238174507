"""Checks and tiny fixtures that outside modalities may use too."""
