"""Publishing on the Hugging Face Hub, or on a mirror that speaks its API."""
