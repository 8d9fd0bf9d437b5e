"""From a verdict to a delivered alert: whom it concerns (case), when they hear of it (desk), how it goes out."""
