from lmri.decomposition.quality import *
