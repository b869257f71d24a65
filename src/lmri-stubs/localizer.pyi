from lmri.decomposition.localizer import *
