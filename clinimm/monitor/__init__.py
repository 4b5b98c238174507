"""A deployed model over time: what arrives, drift, performance, objections; alarms, incidents, a board."""
