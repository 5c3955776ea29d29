"""What surrounds every attack: checks, batches, budgets, transformations, warnings and the result."""
