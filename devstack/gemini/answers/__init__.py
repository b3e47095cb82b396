"""What the stand-in answers: one writer for any response schema, five topics, no model."""
