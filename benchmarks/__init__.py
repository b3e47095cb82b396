"""Rein side by side with the floor and the alternatives: `make bench`."""
