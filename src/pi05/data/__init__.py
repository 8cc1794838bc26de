"""Episodes on disk become batches, and actions become robot units again. Knows no network."""
