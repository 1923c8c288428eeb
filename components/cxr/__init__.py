"""What two or more steps share: labels, pixels, text, the three contracts, the model, storage and tracking."""
