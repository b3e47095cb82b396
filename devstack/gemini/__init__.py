"""A local stand-in for Gemini: its HTTP protocol, answers made by rules, faults on demand."""
