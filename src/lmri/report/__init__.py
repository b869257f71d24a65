"""The report: everything in a study as one self-contained HTML file, from data alone."""

from lmri.report.page import write_report

__all__ = ["write_report"]
