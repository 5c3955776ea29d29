"""Clever Hans detection step by step: relevance maps, their clusters, and the result."""
