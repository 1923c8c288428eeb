"""A report split into sections, and what of it may be read before the film."""
