"""A network with its preprocessing and labels, its layers, and passes through it, forward and backward."""
