"""A hospital with known truth, in real file formats."""
