"""The gate: who may let a model be registered, become champion and be served, and on what evidence."""
