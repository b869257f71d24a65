from lmri.storage.outcome import *
