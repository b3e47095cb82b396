"""The stories. Deterministic: domain models and activity signatures only."""
