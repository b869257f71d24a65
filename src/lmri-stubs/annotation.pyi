from lmri.networks.annotation import *
