"""The stages of a run for virtual staining, where they differ from those of a diagnosis."""
