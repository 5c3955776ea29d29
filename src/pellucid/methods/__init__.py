"""What all methods share: the decorator, the catalogue, and what they return."""
