"""The algorithms. They see scorers, fixed templates and a backend, and know no array library and no model."""
