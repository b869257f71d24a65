"""The report: everything in a study as one self-contained HTML file, from data alone."""

from lmri.report.page import Contents, is_report, write_report

__all__ = ["Contents", "is_report", "write_report"]
