"""Running a trained model over images: scores, features and maps."""
