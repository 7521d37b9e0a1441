"""Tables of answers, pictures of measurements, and the page that steps through a search."""

from birnn_decode.show.trace_page import trace_page

__all__ = ["trace_page"]
