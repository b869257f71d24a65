"""Tolerances are as large as rounding and smaller than a fault, and the tool finds those without a reason."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tolerances import epsilon, relative, rounding

_SPEC = importlib.util.spec_from_file_location("tool", Path(__file__).parents[1] / "tools" / "tolerances.py")
tool = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(tool)


# -- sizes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("n", [10, 1000, 10_000])
def test_sums_in_another_order_agree_and_sums_without_a_term_do_not(dtype, n):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(200, n)) / np.sqrt(n)).astype(dtype)
    forwards, backwards = (np.add.accumulate(one, axis=1)[:, -1] for one in (values, values[:, ::-1]))
    assert not np.array_equal(forwards, backwards)  # the order matters
    close = rounding(forwards, n)
    np.testing.assert_allclose(forwards.astype(float), backwards.astype(float), rtol=0, atol=close)
    if dtype != np.float16:  # whose spacing is as large as a term
        without = np.add.accumulate(values[:, 1:], axis=1)[:, -1]
        assert np.abs(forwards - without).max() > 10 * close


def test_the_format_is_that_of_the_values_unless_another_one_is_named():
    import torch

    assert rounding(np.float32([2, -4])) == 4 * relative(dtype=np.float32)
    assert rounding(torch.tensor([2.0, -4.0]), dtype=torch.bfloat16) == 4 * 8 * 2**-7
    assert rounding(torch.tensor([np.nan, -4.0]).numpy()) == 4 * relative(dtype="float32")
    assert rounding(3) == rounding([1.0, 3.0]) == 3 * relative()
    assert epsilon(torch.float16) == epsilon(np.float16) == 2**-10


def test_a_test_with_a_derived_tolerance_is_numeric(request):
    assert rounding(1.0) > 0
    assert request.node.get_closest_marker("numeric")


def test_other_tests_are_not_numeric(request):
    assert not request.node.get_closest_marker("numeric")


# -- reasons ----------------------------------------------------------------------------------------------------------

WITHOUT = [
    "assert a == pytest.approx(b, abs=1e-5)",
    "assert a == pytest.approx(b, 1e-5)",
    "assert np.allclose(a, b, atol=1e-5)",
    "assert np.allclose(a, b, 1e-3)",
    "np.testing.assert_allclose(a, b, rtol=1e-4)",
    "np.testing.assert_almost_equal(a, b, decimal=3)",
    "torch.testing.assert_close(a, b, rtol=1e-5, atol=0)",
    "torch.testing.assert_close(a, b)",
    "assert torch.allclose(a, b)",
    "assert math.isclose(a, b, abs_tol=1e-9)",
    "CLOSE = {'rtol': 1e-5}\nassert np.allclose(a, b, **CLOSE)",
    "CLOSE = dict(atol=1e-5)",
    "close = 1e-5\nassert np.allclose(a, b, atol=close)",
    "close = 1e-5 * b.max()\nassert np.allclose(a, b, atol=close)",
    "assert abs(a - b) < 1e-6",
    "assert np.abs(a - b).max() <= 1e-4 * b.max()",
    "assert (a >= b - 1e-9).all()",
    "assert a == approx(b, abs=1e-5)  # noqa: E501",
    "# the reason is elsewhere\nassert a == approx(b, abs=1e-5)",
    "assert a == approx(\n    b, abs=1e-5\n)  # the reason is elsewhere",
    "assert a == approx(b, abs=5 * sd / np.sqrt(n))",
]
WITH = [
    "assert a == pytest.approx(b, abs=1e-5)  # printed with 5 decimals",
    "assert a == pytest.approx(\n    b,\n    abs=1e-5,  # printed with 5 decimals\n)",
    "assert np.allclose(a, b, atol=rounding(b, 100))",
    "assert np.allclose(a, b, atol=np.finfo(np.float32).eps * 3)",
    "assert np.allclose(a, b, rtol=0, atol=0)",
    "close = rounding(b, 100)\nassert np.allclose(a, b, atol=2 * close)",
    "close = 0.1  # 5 standard errors\nassert np.allclose(a, b, atol=close)",
    "x, close = 1, relative(3)\nassert abs(a - b) < close",
    "torch.testing.assert_close(a, b, rtol=0, atol=rounding(b))",
    "torch.testing.assert_close(a, b, **close)",
    "assert a == pytest.approx(b)",
    "assert np.allclose(a, b)",
    "assert p <= 0.05",
    "fit(tol=1e-9)",
    "assert f(alpha=0.001) == [1e-5]",
    "assert a == approx(b, abs=5 * sd / np.sqrt(n))  # 5 standard errors",
]


@pytest.mark.parametrize("source", WITHOUT)
def test_a_tolerance_without_a_reason_on_its_line_is_found(source):
    assert len(tool.without_reason(source)) == 1


@pytest.mark.parametrize("source", WITH)
def test_a_tolerance_with_a_reason_is_accepted(source):
    assert tool.without_reason(source) == []


def test_a_variable_needs_a_reason_wherever_it_is_assigned():
    source = "def a():\n    close = rounding(b)\ndef c():\n    close = 1e-3\n    assert x == approx(y, abs=close)\n"
    assert tool.without_reason(source) == [5]


def test_the_step_of_the_linter_fails_and_lists_the_lines(tmp_path, capsys):
    path = tmp_path / "test_it.py"
    path.write_text("assert a == approx(b)\nassert a == approx(b, abs=1e-5)\n")
    assert tool.main([str(path)]) == 1
    assert f"{path}:2: assert a == approx(b, abs=1e-5)" in capsys.readouterr().out
    path.write_text("assert a == approx(b)\n")
    assert tool.main([str(path)]) == 0


def test_no_tolerance_of_the_suite_lacks_a_reason():
    assert tool.main([]) == 0
