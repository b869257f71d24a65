from lmri.models.surprisal import *
