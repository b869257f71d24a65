from lmri.space.drawing import *
