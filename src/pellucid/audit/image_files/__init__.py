"""What files of images tell before any network sees them, and how well a classifier tells them apart."""
