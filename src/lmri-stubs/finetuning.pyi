from lmri.lesions.finetuning import *
