from lmri.storage.splits import *
