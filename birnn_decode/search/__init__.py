"""The algorithms. They see scorers, fixed templates and a backend; no model, no adapter, and not PyTorch."""
