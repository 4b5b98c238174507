"""What rules by group do not find: slices, labels that mean less for some, shortcuts, drift of gaps."""
