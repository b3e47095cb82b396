"""The way to the model: one structured answer a call, every failure classified once, its price."""
