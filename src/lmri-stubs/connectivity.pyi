from lmri.networks.connectivity import *
