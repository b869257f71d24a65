from lmri.lesions.scores import *
