"""Training of networks that make images."""
