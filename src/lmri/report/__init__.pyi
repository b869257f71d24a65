from .overview import write_reports as write_reports
from .page import write_report as write_report
