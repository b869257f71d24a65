"""Tolerances that follow from the arithmetic: a multiple of the number format's epsilon and the size of the sum.

Two processors, two numbers of threads or two orders of summation give results that differ by rounding. By how much is
known before the test runs: a sum of `n` terms, computed in a format of spacing `eps`, has an error of about ``eps √n``
times its largest partial sum. `MULTIPLE` covers partial sums that are larger than the result, and the largest error of
many results. A tolerance that was measured on one processor is too small on another one.

Tests that call one of these functions have the marker ``numeric``, which `conftest.py` adds. ``make lint`` lists the
tolerances that neither come from here nor have a reason on their line (`tools/tolerances.py`).
"""

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

MULTIPLE = 8
"""Rounding errors are allowed to be so many times ``eps √n``; faults that tests look for are 1000 times larger."""


def epsilon(dtype: Any) -> float:
    """Return the spacing of numbers at 1 in a floating-point format of NumPy or torch.

    Examples
    --------
    >>> epsilon("float32") == epsilon(np.float32) == 2**-23
    True
    """
    if str(dtype).startswith("torch."):
        import torch

        return torch.finfo(dtype).eps
    return float(np.finfo(dtype).eps)


def relative(n_terms: float = 1, dtype: Any = np.float64, multiple: float = MULTIPLE) -> float:
    """Return the relative tolerance of a sum of `n_terms` terms of one sign, computed in `dtype`.

    Examples
    --------
    >>> relative(100) == 8 * 10 * 2**-52
    True
    """
    return float(multiple * epsilon(dtype) * np.sqrt(n_terms))


def rounding(values: Any, n_terms: float = 1, dtype: Any = None, multiple: float = MULTIPLE) -> float:
    """Return the absolute tolerance of sums of `n_terms` terms.

    Parameters
    ----------
    values : array, tensor or number
        Results, or the largest partial sums where terms cancel. Their largest absolute value is the size of the sums.
    n_terms : float
        Number of terms of each sum; along a chain of sums, of all of them together.
    dtype : dtype, optional
        Format of the computation. The default is the format of `values`, and float64 for numbers.

    Examples
    --------
    >>> rounding(2.0, 25, np.float32) == 2 * 8 * 5 * 2**-23
    True
    """
    if hasattr(values, "detach"):
        dtype = values.dtype if dtype is None else dtype
        values = values.detach().abs().max().item()
    array = np.asarray(values)
    if dtype is None:
        dtype = array.dtype if array.dtype.kind == "f" else np.float64
    return relative(n_terms, dtype, multiple) * float(np.nanmax(np.abs(array)))


def model_rounding(model: "torch.nn.Module", values: Any, multiple: float = MULTIPLE) -> float:
    """Return the absolute tolerance of activations or logits `values`, computed by `model` in two ways.

    The sums from the tokens to the logits have as many terms as the weight matrices are long, all of them together.
    """
    n_terms = sum(max(parameter.shape) for parameter in model.parameters() if parameter.ndim > 1)
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return rounding(values, n_terms, dtype, multiple)


FUNCTIONS = {function.__name__ for function in (epsilon, relative, rounding, model_rounding)}
