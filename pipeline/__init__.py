"""The pipeline: the DAG, its configuration, and the ways to compile and run it."""
