"""The functions that `import mcl` offers, and that the verbs call."""
