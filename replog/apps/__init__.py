"""Ready applications: the key-value store that clusters run by default, a counter, a bank."""
