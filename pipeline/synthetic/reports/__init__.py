"""Synthetic reports: what a reader mentions, and in which words."""
