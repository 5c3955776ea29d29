"""One pass over many images: measures, sources of images, stored arrays and contact sheets."""
