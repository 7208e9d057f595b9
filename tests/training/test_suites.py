"""A suite holds enough different networks to compare, each of which can be trained as it says."""

import pytest

from atodds.data import ImageSet
from atodds.data.catalog import KNOWN
from atodds.models import parameter_count
from atodds.models.networks import skeleton
from atodds.training import SUITES, Entry, train

EVERY = pytest.mark.parametrize("name", SUITES)
ENTRIES = [pytest.param(entry, name, id=f"{name}-{entry.name}") for name, suite in SUITES.items() for entry in suite]


@EVERY
def test_a_suite_has_at_least_eighteen_networks_of_six_families_under_names_of_their_own(name: str) -> None:
    suite = SUITES[name]
    assert len({entry.name for entry in suite}) == len(suite) >= 18
    families = [entry.family for entry in suite]
    assert len(set(families)) >= 6
    assert min(families.count(family) for family in families) >= 3


@EVERY
def test_the_networks_of_a_family_differ_in_size(name: str) -> None:
    by_family: dict[str, set[int]] = {}
    for entry in SUITES[name]:
        network = skeleton(entry.network, KNOWN[name].shape, 10, settings=entry.settings)
        by_family.setdefault(entry.family, set()).add(parameter_count(network))
    assert all(len(sizes) >= 3 for sizes in by_family.values())


@pytest.mark.parametrize(("entry", "name"), ENTRIES)
def test_every_network_fits_the_images_of_its_suite(entry: Entry, name: str) -> None:
    assert parameter_count(skeleton(entry.network, KNOWN[name].shape, 10, settings=entry.settings)) > 0


@pytest.mark.slow
@pytest.mark.parametrize("entry", SUITES["digits"], ids=lambda entry: entry.name)
def test_every_network_of_the_digits_reaches_the_accuracy_that_its_page_tells(entry: Entry) -> None:
    import torch

    from atodds import data

    train_images, test_images = (data.load("digits", split=split) for split in ("train", "test"))
    model = train(entry.network, train_images, entry.recipe, settings=entry.settings, device="cpu")
    with torch.no_grad():
        hits = model(test_images.images()).argmax(1) == torch.tensor(test_images.labels)
    assert float(hits.float().mean()) > 0.96
    assert isinstance(train_images, ImageSet)
