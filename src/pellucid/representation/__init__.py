"""How a network sees the world: what its layers hold, and where images lie among others."""
