"""Trainings under many configurations, the best by validation: `python -m pipeline sweep`."""
