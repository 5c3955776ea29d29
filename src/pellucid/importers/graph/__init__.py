"""A network while it is imported: a graph of torch functions, and how it becomes modules."""
