"""Applications that ship with Keelback; serve one by its module name."""
