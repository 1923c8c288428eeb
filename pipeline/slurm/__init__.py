"""The pipeline as jobs of a Slurm cluster."""
