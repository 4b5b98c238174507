"""Who is asked about, when, and what was known by then."""
