"""The network: tensors in, tensors out. Knows no files, no data sets, no training loop."""
