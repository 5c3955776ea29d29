"""JAX functions (Flax, Equinox, Haiku) as torch networks."""
