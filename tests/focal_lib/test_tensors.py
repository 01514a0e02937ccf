"""Bad tensors: an error that names the argument where values can be looked at, elsewhere NaN."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import focal_lib.torch
from focal_lib.torch import sigmoid_focal_loss, softmax_focal_loss

pytestmark = pytest.mark.filterwarnings("ignore:.*(nested|masked|quantiz|Masked).*")

X = torch.linspace(-2, 2, 6).view(2, 3)
GOOD, BAD = torch.tensor([0, 2]), torch.tensor([0, 7])
PROBABILITIES = torch.tensor([[0.2, 0.3, 0.5], [0.1, 1.5, 0.0]])
CASES = {
    "an index": (softmax_focal_loss, BAD, {}),
    "an index, smoothed": (softmax_focal_loss, BAD, {"label_smoothing": 0.1}),
    "an index, weighted": (softmax_focal_loss, BAD, {"weight": torch.ones(3)}),
    "a probability": (softmax_focal_loss, PROBABILITIES, {}),
    "a target": (sigmoid_focal_loss, PROBABILITIES, {}),
    "a target, some left out": (sigmoid_focal_loss, PROBABILITIES, {"ignore_index": -1}),
}
cases = pytest.mark.parametrize(("loss", "target", "options"), CASES.values(), ids=CASES)


def of_one(loss, target, options):
    """The losses without a reduction, of items of a batch."""
    return lambda x, y: loss(x, y, reduction="none", **options)


def compiled(function):
    return torch.compile(function, backend="eager", fullgraph=True)


def exported(function):
    class Model(torch.nn.Module):
        def forward(self, x, y):
            return function(x, y)

    return lambda x, y: torch.export.export(Model(), (x, y)).module()(x, y)


BLIND = {
    "vmap": lambda f: torch.func.vmap(f),
    "compile": compiled,
    "export": exported,
    "func.grad": lambda f: (
        lambda x, y: torch.func.grad(
            lambda x, y: f(x, y).nansum(), argnums=(0, 1) if y.is_floating_point() else 0
        )(x, y)
    ),
}


@cases
@pytest.mark.parametrize("transform", BLIND.values(), ids=BLIND)
def test_nan_where_values_cannot_be_looked_at(transform, loss, target, options):
    if transform is BLIND["func.grad"]:
        if not target.is_floating_point():
            pytest.skip("an index is not wrapped by the transform: its error is tested below")
        both = transform(of_one(loss, target, options))(X, target)
        result = both[0]
    else:
        result = transform(of_one(loss, target, options))(X, target)
    each = result.reshape(2, -1)
    assert each[0].isfinite().all()
    is_own = loss is sigmoid_focal_loss  # an element of the row is bad, else the whole item
    assert (each[1].isnan() == ((target[1] > 1) if is_own else True)).all(), result


class Logging(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


class Subclass(torch.Tensor):
    pass


def under_a_mode(call, x, y):
    with Logging():
        return call(x, y)


SEEING = {
    "plain": lambda call, x, y: call(x, y),
    "float64": lambda call, x, y: call(x.double(), y),
    "a dispatch mode": under_a_mode,
    "a subclass": lambda call, x, y: call(x.as_subclass(Subclass), y),
    "a target of a subclass": lambda call, x, y: call(x, y.as_subclass(Subclass)),
    "a view of negative bit": lambda call, x, y: call(negative_view(x), y),
    "a target that wants a gradient": lambda call, x, y: call(
        x, y.requires_grad_() if y.is_floating_point() else y
    ),
}


def negative_view(x):
    return torch.complex(torch.zeros_like(x), -x).conj().imag


@cases
@pytest.mark.parametrize("see", SEEING.values(), ids=SEEING)
def test_an_error_where_they_can(see, loss, target, options):
    name = "targets" if loss is sigmoid_focal_loss else "target"
    with pytest.raises(ValueError, match=rf"^{name}: takes .*, got (7|1\.5)$"):
        see(of_one(loss, target, options), X, target.clone())


def test_a_view_of_negative_bit_among_the_targets():
    bad = torch.complex(torch.zeros(1), torch.tensor([-5.0])).conj().imag
    with pytest.raises(ValueError, match=r"^targets: takes numbers in \[0, 1\], got 5.0"):
        sigmoid_focal_loss(torch.zeros(1), bad)


def test_a_target_is_not_rounded_to_the_dtype_of_the_logits():
    y = torch.tensor([1 - 1e-9], dtype=torch.float64)
    for x, true in ((1e6, 1e-3), (30.0, 3e-8)):
        for see in SEEING.values():
            call = lambda x, y: sigmoid_focal_loss(x, y, None, 2.0)  # noqa: E731
            value = see(call, torch.tensor([x]), y.clone())
            assert value.item() == pytest.approx(true, rel=1e-6)


NESTED = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
MASKED = torch.masked.masked_tensor(torch.zeros(3), torch.tensor([True, False, True]))
QUANTIZED = torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.quint8)


@pytest.mark.parametrize("bad", [NESTED, MASKED, QUANTIZED, torch.zeros(3).to_sparse()])
@pytest.mark.parametrize(
    ("function", "good"),
    [
        ("sigmoid_focal_loss", {"inputs": torch.zeros(3), "targets": torch.zeros(3)}),
        ("softmax_focal_loss", {"input": torch.zeros(3), "target": torch.zeros(3)}),
        ("target_probability", {"p": torch.zeros(3), "y": torch.zeros(3)}),
        ("focal_loss", {"p_t": torch.zeros(3), "alpha_t": torch.ones(3)}),
    ],
)
def test_tensors_of_other_kinds(bad, function, good):
    for name in good:
        settings = {"gamma": 2.0} if function == "focal_loss" else {}
        with pytest.raises(TypeError, match=rf"^{name}: takes a .*, got "):
            getattr(focal_lib.torch, function)(**{**good, name: bad}, **settings)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: softmax_focal_loss(X, GOOD, ignore_index=2**70), "ignore_index: takes"),
        (lambda: softmax_focal_loss(X, GOOD, gamma=10**400), "gamma: takes"),
        (lambda: softmax_focal_loss(X, GOOD, label_smoothing=10**400), "label_smoothing: takes"),
        (lambda: sigmoid_focal_loss(X, X > 0, ignore_index=1), "ignore_index: takes"),
        (lambda: sigmoid_focal_loss(X, X > 0, pos_weight=torch.ones(3)), "alpha: takes None"),
        (lambda: sigmoid_focal_loss(X, X > 0, weight=torch.ones(2)), "weight: takes a shape"),
        (lambda: sigmoid_focal_loss(X, X > 0, weight=-torch.ones(3)), "weight: takes finite"),
        (
            lambda: sigmoid_focal_loss(X, X > 0, None, pos_weight=torch.tensor(torch.inf)),
            "pos_weight: takes finite",
        ),
        (lambda: focal_lib.torch.target_probability(X.sigmoid(), torch.ones(2)), "y: takes"),
        (lambda: focal_lib.torch.focal_loss(X.sigmoid(), 2.0, torch.ones(2)), "alpha_t: takes"),
        (lambda: softmax_focal_loss(X, X.softmax(1), ignore_index=1), "ignore_index: takes"),
    ],
)
def test_errors_name_the_argument(call, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        call()


@pytest.mark.parametrize("dtype", [torch.uint16, torch.uint32, torch.uint64])
def test_unsigned_integers(dtype):
    y = torch.tensor([1, 0, 1]).to(dtype)
    expected = sigmoid_focal_loss(X[0], torch.tensor([1, 0, 1]))
    assert sigmoid_focal_loss(X[0], y).equal(expected)
    p = torch.tensor([0.25, 0.5, 1.0])
    assert focal_lib.torch.target_probability(p, y).equal(torch.tensor([0.25, 0.5, 1.0]))
    assert focal_lib.torch.focal_loss(p, 2.0, y).isfinite().all()
    with pytest.raises(ValueError, match=r"^targets: takes numbers in \[0, 1\], got 2"):
        sigmoid_focal_loss(X[0], 2 * torch.tensor([1, 0, 1]).to(torch.int32).to(dtype).int())


@pytest.mark.parametrize("bad", [-1.0, torch.nan, torch.inf])
def test_a_bad_weight_that_cannot_be_looked_at_gives_nan(bad):
    labels, w = torch.zeros(2, 3), torch.tensor([1.0, 1.0, bad])
    options = {"alpha": None, "reduction": "none"}
    calls = {
        "class": lambda x, w: softmax_focal_loss(x, GOOD, w, reduction="none"),
        "weight": lambda x, w: sigmoid_focal_loss(x, labels, weight=w, **options),
        "pos_weight": lambda x, w: sigmoid_focal_loss(x, labels + 1, pos_weight=w, **options),
    }
    for name, call in calls.items():
        results = compiled(call)(X, w), torch.func.vmap(call)(X[None], w[None])[0]
        for result in results:
            is_bad = [False, True] if name == "class" else [[False, False, True]] * 2
            assert result.isnan().tolist() == is_bad


def test_an_index_too_large_for_64_bits_is_not_the_one_to_be_ignored():
    wrapped = torch.tensor([2**64 - 100, 1], dtype=torch.uint64)
    for x in (X, X.double()):
        with pytest.raises(ValueError, match=r"^target: takes .*, got 18446744073709551516$"):
            softmax_focal_loss(x, wrapped)
        with pytest.raises(ValueError, match=r"^targets: takes .*, got 18446744073709551516$"):
            sigmoid_focal_loss(x[0, :2], wrapped, ignore_index=-100)
    loss = compiled(lambda x, y: softmax_focal_loss(x, y, reduction="none"))(X, wrapped)
    assert loss.isnan().tolist() == [True, False]
