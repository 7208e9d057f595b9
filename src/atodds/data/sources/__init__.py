"""Layouts on disk that become an ImageSet: one file each, registered here once."""

from atodds.data.source import Source
from atodds.data.sources import cifar_binary, cifar_python, folder, idx, npz, parquet, stl10, tiny_imagenet

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        idx.SOURCE,
        cifar_python.SOURCE,
        cifar_binary.SOURCE,
        stl10.SOURCE,
        tiny_imagenet.SOURCE,
        parquet.SOURCE,
        npz.SOURCE,
        folder.SOURCE,
    )
}
"""By name, in the order in which a path is held against them: where a folder has several, the official files win."""
