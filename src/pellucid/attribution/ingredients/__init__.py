"""What attributions are made of: baselines, noise, batched gradients, maps of a layer."""
