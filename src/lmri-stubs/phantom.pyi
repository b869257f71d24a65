from lmri.decomposition.phantom import *
