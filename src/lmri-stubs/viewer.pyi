from lmri.report.viewer import *
