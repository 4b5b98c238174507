"""What can be done about a gap after training, and what it did to everybody."""
