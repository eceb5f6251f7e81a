"""The corpus has the same user as the end-to-end tests."""

from tests.e2e.conftest import nothing_left, product

__all__ = ["nothing_left", "product"]
