"""Adapters for public data sets, one file each."""
