"""Virtual staining: pairs, registration, stainers, whole slides and the safety case."""
