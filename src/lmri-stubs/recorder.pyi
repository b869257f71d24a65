from lmri.models.recorder import *
