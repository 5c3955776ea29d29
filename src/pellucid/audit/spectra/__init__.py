"""Spectra of many images, and the small network that classifies them."""
