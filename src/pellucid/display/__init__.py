"""Pictures: colors of maps, and figures."""
