"""What makes the views of an image: one affine map for image and mask, then photometric noise."""
