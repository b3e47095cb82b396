"""Prompt files, one for each version of a stage's prompt, and the module that loads them."""
