"""Prompts: immutable text, versioned as files."""
