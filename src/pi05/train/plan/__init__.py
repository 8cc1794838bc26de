"""What a run needs and how fast it is, predicted on shapes; which method fits."""
