"""MLflow tracking, the signed manifest and the gate."""
