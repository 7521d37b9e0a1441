"""Fill a hole in a picture: Context Encoders, and the library's bidirectional search over pixels.

Run it with ``python -m examples.inpainting`` from the root of the repository. It is no part of the package.
"""
