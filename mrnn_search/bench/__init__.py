"""The project's own measurements (layer 6, beside results): what it claims about its speed, measured side by side in one run."""
