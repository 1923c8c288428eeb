"""The evaluation step: scores a bundle, compares it with the deployed one and decides."""
