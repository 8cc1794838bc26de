"""openpi's checkpoint folders, PyTorch and JAX: names of tensors, statistics, orbax; read and written."""
