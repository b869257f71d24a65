from lmri.lesions.experiments import *
