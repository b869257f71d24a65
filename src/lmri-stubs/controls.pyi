from lmri.lesions.controls import *
