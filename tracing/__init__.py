"""Opik under Temporal: one run is one trace, whatever happens to workers, Temporal or Opik."""
