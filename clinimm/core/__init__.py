"""Plain values that every layer shares: no torch, no file formats, no network."""
