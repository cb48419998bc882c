"""Training: one loop, and the losses that are handed to it."""
