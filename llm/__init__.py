"""Calls of the language model: requests, answers, the classification of failures, and prices."""
