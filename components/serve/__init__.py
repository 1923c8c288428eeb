"""The deployed model behind HTTP, and the step that puts a model into service."""
