from lmri.networks.thresholds import *
