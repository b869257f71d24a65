from lmri.storage.recording import *
