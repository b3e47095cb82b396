"""Four ways to trace a Temporal workflow into Opik, under the same crashes."""
