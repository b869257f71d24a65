from lmri.networks.comparison import *
