"""The development stack: everything Rein needs around it, on one machine, from wheels alone."""
