"""Files: images to tensors, tables, and how a file is written whole or not at all."""
