from lmri.lesions.interventions import *
