"""Dashboards as code: `model` says what a board is, `boards` has ours, `render` makes JSON."""
