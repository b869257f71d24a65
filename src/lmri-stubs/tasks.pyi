from lmri.lesions.tasks import *
