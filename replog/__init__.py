"""The replicated-log interface and the ground both protocols stand on."""
