"""What `pi05 export` is made of: sources, the files of each layout, the probe, and proof of equality."""
