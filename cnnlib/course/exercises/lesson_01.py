"""Exercises of lesson 01, what layers learn."""

EXERCISES = []
