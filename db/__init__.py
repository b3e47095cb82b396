"""The SQL of the product: one async function per statement, with the connection as first argument.

The functions return models and open no transaction; their caller decides where it begins and ends.
"""
