"""Models: timm encoders, heads, and the objectives that several methods share."""
