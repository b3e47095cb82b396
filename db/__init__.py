"""All SQL: one function per statement, connection first, model out; no transaction opened here."""
