"""How parameters move: AdamW, its low-memory forms, rounding, clipping."""
