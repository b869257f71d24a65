from lmri.decomposition.individuals import *
