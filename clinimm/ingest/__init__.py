"""From bytes to events, pseudonyms and refusals."""
