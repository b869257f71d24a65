from lmri.lesions.evaluation import *
