"""The anatomic recipe: a hand-made template of both lungs, fitted to the image in six steps."""
