"""Focal loss and the losses it comes from: exact, tested, in NumPy and in torch.

`focal_lib.numpy` has the definitions in p_t and the losses of logits with their closed gradients;
`focal_lib.torch` the same losses on tensors; `focal_lib.weights` class weights;
`focal_lib.estimation` the way from a focal-trained score to a probability and back;
`focal_lib.boosting` the objectives for XGBoost, LightGBM and scikit-learn.
"""

__version__ = "0.3.0"
