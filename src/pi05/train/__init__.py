"""Training: `loop.py` is the page to read first; `config.py` holds every setting."""
