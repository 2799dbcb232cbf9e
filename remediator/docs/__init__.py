"""The pages of the documentation, which are shipped with the program and linked from the README."""
