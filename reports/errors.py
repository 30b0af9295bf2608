"""What goes wrong when stored records are read for a report."""

from __future__ import annotations


class ReportError(Exception):
    """A run folder whose records cannot be reported on or compared, as a sentence for the user."""
