"""The only code that touches the world: one small class per feature, dependencies handed in."""
