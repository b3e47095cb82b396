"""What Rein talks about: pydantic models and pure rules. No I/O, no clock."""
