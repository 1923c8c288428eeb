"""The tables beside synthetic films and reports: labels, splits, metadata, truth."""
