from lmri.models.sites import *
