"""Where bytes come from. Every source is reached through the one interface in ``base.py``."""
