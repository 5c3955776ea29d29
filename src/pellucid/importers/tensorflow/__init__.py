"""TensorFlow functions as torch networks."""
