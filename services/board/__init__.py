"""What a person looks at: topics folded into Redis, and the questions asked of it."""
