"""Errors and warnings that a caller may catch by name."""


class LMRIError(Exception):
    """Base class of the errors of this package."""


class SpaceMismatchError(LMRIError, ValueError):
    """Two things do not live in the same neuron space (other layers, widths, site or grid)."""


class NonFiniteError(LMRIError, ValueError):
    """Data hold NaN or infinite values."""


class NotThresholdedError(LMRIError, ValueError):
    """Members were asked of a map that has not been thresholded yet."""


class SiteError(LMRIError, ValueError):
    """The place where neurons are read was not found, or does not behave as one."""


class StudyError(LMRIError, ValueError):
    """A study cannot be read or written as asked."""


class EntryExistsError(StudyError):
    """An entry of this name exists and was made with other parameters."""


class AmbiguousChoiceError(StudyError):
    """A request fits several entries, or none."""


class LMRIWarning(UserWarning):
    """Base class of the warnings of this package: work goes on, but look."""


class OtherWeightsWarning(LMRIWarning):
    """Same geometry, but other weights than those that were recorded."""


class DataWarning(LMRIWarning):
    """Something about the data that the result depends on."""


class ConvergenceWarning(LMRIWarning):
    """A decomposition did not converge from all, or any, of its starts."""


class NothingFoundError(ValueError):
    """A decomposition found no map at all."""
