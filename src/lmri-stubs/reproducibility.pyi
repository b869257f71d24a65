from lmri.decomposition.reproducibility import *
