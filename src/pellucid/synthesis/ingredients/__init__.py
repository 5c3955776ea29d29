"""What syntheses combine: parametrizations, penalties, transforms and objectives about activations."""
