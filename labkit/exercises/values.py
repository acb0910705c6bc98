"""Values as the grader keeps and shows them: short text for people, plain data for comparing two answers."""

from __future__ import annotations

import math
import re
import reprlib
from typing import Any

__all__ = ["alike", "canonical", "plain", "same", "shown"]

MAX_TEXT = 160  # characters of an array in a message
MAX_KEPT = 64  # elements of an array or container that are kept; sums stand for the rest
_NUMBER = (int, float, complex)
RTOL = 1e-6  # two wrong answers that differ by rounding alone are one


class _Short(reprlib.Repr):
    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxlist, self.maxtuple, self.maxdict, self.maxset = 4, 10, 10, 10, 10
        self.maxstring, self.maxother, self.maxlong = 120, 160, 60

    def repr_float(self, value: float, level: int) -> str:
        if not math.isfinite(value):
            return repr(value)
        text = f"{value:.10g}"
        return text if set(text) & set(".e") else f"{text}.0"


def shown(value: Any) -> str:
    """A value on about one line, arrays with their shape; never raises."""
    try:
        array = _array(value)
        if array is not None and array.ndim:
            import numpy as np

            text = " ".join(np.array2string(array, threshold=20, edgeitems=2, precision=6, separator=", ").split())
            if len(text) > MAX_TEXT:
                text = np.array2string(array.ravel()[:4], precision=6, separator=", ")[:-1] + ", ...]"
            return f"{text}  shape {tuple(array.shape)}"
        return _Short().repr(value if array is None else array.item())
    except Exception as error:  # the value is the learner's: its own repr may be what is broken
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"


def plain(value: Any) -> Any:
    """Numpy and torch scalars and arrays as numpy; all else as it came."""
    array = _array(value)
    return value if array is None else array


def same(got: Any, want: Any, *, rtol: float = 0.0, atol: float = 0.0) -> bool:
    """Equal in structure, shapes and values; numbers within ``atol + rtol * |want|``. NaN equals NaN."""
    if isinstance(want, dict):
        return (
            isinstance(got, dict)
            and got.keys() == want.keys()
            and all(same(got[key], want[key], rtol=rtol, atol=atol) for key in want)
        )
    first, second = _array(got), _array(want)
    if isinstance(want, list | tuple) and first is None:
        return (
            isinstance(got, list | tuple)
            and len(got) == len(want)
            and all(same(a, b, rtol=rtol, atol=atol) for a, b in zip(got, want, strict=True))
        )
    if first is None and second is None:
        if not isinstance(got, _NUMBER) or not isinstance(want, _NUMBER):
            return bool(want == got)
        return want == got or abs(got - want) <= atol + rtol * abs(want) or (got != got and want != want)
    import numpy as np

    a, b = np.asarray(got if first is None else first), np.asarray(want if second is None else second)
    if a.shape != b.shape:
        return False
    if a.dtype.kind not in "biufc" or b.dtype.kind not in "biufc":
        return bool(np.array_equal(a, b))
    if not rtol and not atol:
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc" and b.dtype.kind in "fc"))
    return bool(np.allclose(a, b, rtol=rtol, atol=atol, equal_nan=True))


def canonical(value: Any, depth: int = 6) -> Any:
    """Plain JSON data that stands for a value, so that answers of two processes can be compared by ``alike``."""
    array = _array(value)
    if array is not None:
        flat = array.ravel()
        kept = [canonical(item, 0) for item in flat[:MAX_KEPT].tolist()]
        if flat.size > MAX_KEPT and flat.dtype.kind in "biuf":
            total = flat.astype("float64")
            kept += [float(total.sum()), float((total * total).sum())]
        return kept[0] if array.ndim == 0 else {"shape": list(array.shape), "values": kept}
    if value is None or isinstance(value, bool | int | str):
        return value[:1000] if isinstance(value, str) else value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if depth and isinstance(value, list | tuple):
        return [len(value), *(canonical(item, depth - 1) for item in value[:MAX_KEPT])]
    if depth and isinstance(value, dict):
        return {str(key): canonical(value[key], depth - 1) for key in list(value)[:MAX_KEPT]}
    if depth and isinstance(value, set | frozenset):
        return sorted((canonical(item, depth - 1) for item in value), key=repr)[:MAX_KEPT]
    return re.sub(r" at 0x[0-9a-f]+", "", shown(value))


def alike(first: Any, second: Any) -> bool:
    """Two canonical values are one: the same structure, and numbers within rounding of each other."""
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(alike(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(alike(a, b) for a, b in zip(first, second, strict=True))
    numbers = (int, float)
    if isinstance(first, numbers) and isinstance(second, numbers) and not isinstance(first, bool):
        return math.isclose(first, second, rel_tol=RTOL, abs_tol=1e-12)
    return bool(first == second)


def _array(value: Any) -> Any:
    """A numpy array or scalar, or a torch tensor, as a numpy array; None for anything else. Imports neither."""
    top = type(value).__module__.partition(".")[0]
    if top == "torch" and hasattr(value, "detach"):
        import torch

        tensor = value.detach().cpu()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    if top == "numpy" and hasattr(value, "dtype") and hasattr(value, "ravel"):
        import numpy as np

        return np.asarray(value)
    return None
