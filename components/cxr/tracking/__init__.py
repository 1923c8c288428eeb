"""Runs, metrics and models in MLflow, and the journal beside the checkpoint."""
