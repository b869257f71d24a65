from lmri.networks.rois import *
