"""Errors and warnings of lmri, which callers can catch by class."""


class LMRIError(Exception):
    """Base class of the errors of this package."""


class SpaceMismatchError(LMRIError, ValueError):
    """Raised when data belong to different neuron spaces (layers, widths, site or grid)."""


class NonFiniteError(LMRIError, ValueError):
    """Raised when data contain NaN or infinite values."""


class NotThresholdedError(LMRIError, ValueError):
    """Raised when the members of an unthresholded map are requested."""


class SiteError(LMRIError, ValueError):
    """Raised when the modules of a site are not found in a model, or do not behave as expected."""


class ModelStateError(LMRIError, ValueError):
    """Raised when the calling program changes the computation of a model, as by autocast or by a hook."""


class DeviceError(LMRIError, RuntimeError):
    """Raised when a device computes other values than the CPU."""


class StudyError(LMRIError, ValueError):
    """Raised when a study cannot be read or written."""


class EntryExistsError(StudyError):
    """Raised when an entry of the same name exists with other inputs or parameters."""


class AmbiguousChoiceError(StudyError):
    """Raised when a request fits several entries or none."""


class LMRIWarning(UserWarning):
    """Base class of the warnings of this package: the computation continues, but its result should be checked."""


class OtherWeightsWarning(LMRIWarning):
    """Issued when a model has the recorded geometry but other weights."""


class DataWarning(LMRIWarning):
    """Issued for properties of the data that affect the result."""


class ConvergenceWarning(LMRIWarning):
    """Issued when some or all initializations of a decomposition did not converge."""


class NothingFoundError(ValueError):
    """Raised when a decomposition finds no maps."""
