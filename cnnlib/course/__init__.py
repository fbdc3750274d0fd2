"""The machinery around the lessons: exercises, widgets, running, sweeping, releasing, grading."""
