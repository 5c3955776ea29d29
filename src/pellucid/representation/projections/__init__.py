"""What projections to few dimensions share: points, the embedding that they return, estimates of dimension."""
