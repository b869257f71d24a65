from lmri.storage.texts import *
