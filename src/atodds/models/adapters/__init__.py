"""Models of other libraries, by name: each library is one file here, imported only when a model of it is asked for."""

from collections.abc import Callable, Mapping

from atodds.models.adapters import robustbench_models, timm_models, torchvision_models, transformers_models
from atodds.models.adapters.common import Brought
from atodds.models.adapters.transformers_models import Inner
from atodds.models.spec import Spec

ADAPTERS: Mapping[str, Callable[[Spec, bool], Brought]] = {
    "timm": timm_models.bring,
    "torchvision": torchvision_models.bring,
    "hf": transformers_models.bring,
    "robustbench": robustbench_models.bring,
}
"""How a model of each library comes here: (spec, trust_pickle) -> network, normalisation and usage."""
__all__ = ["ADAPTERS", "Brought", "Inner"]
