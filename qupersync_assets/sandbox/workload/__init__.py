"""The synthetic activity in the sandbox's warehouse."""
