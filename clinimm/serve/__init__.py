"""The web application and the prediction service. `rules.py` says who may do what; `guard.py` is the gate."""
