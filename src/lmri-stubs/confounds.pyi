from lmri.decomposition.confounds import *
