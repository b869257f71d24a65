from lmri.report.export import *
