"""What can be downloaded, from where, and how to know that it is right.

Checksums. LibriSpeech and TED-LIUM: the SHA-256 table of torchaudio 2.11 (``torchaudio/datasets/librispeech.py``,
``tedlium.py``). Mini LibriSpeech, MUSAN and RIRS_NOISES: the MD5 sums that OpenSLR publishes beside the archives and
that PaddleSpeech, WeSpeaker and VoxCeleb Trainer check. DEMAND: the MD5 sums on its Zenodo record, as three public
projects quote them; there is no 16 kHz archive of SCAFE. Sizes are the publishers', rounded where they round.
"""

from dataclasses import dataclass

OPENSLR = "https://www.openslr.org/resources"
ZENODO_DEMAND = "https://zenodo.org/records/1227121/files"


@dataclass(frozen=True, slots=True)
class Archive:
    """One file to download.

    Attributes:
        name: its file name.
        base: the folder of the URL, without a slash at the end; ``--mirror`` replaces it.
        checksum: ``sha256:...`` or ``md5:...``; None where the publisher gives none: then the size that the server
            states is all that can be checked.
        gigabytes: approximate size, for messages.
    """

    name: str
    base: str
    checksum: str | None
    gigabytes: float


def _libri(split: str, resource: int, checksum: str, gigabytes: float) -> tuple[str, Archive]:
    return split, Archive(f"{split}.tar.gz", f"{OPENSLR}/{resource}", checksum, gigabytes)


LIBRISPEECH: dict[str, Archive] = dict(
    [
        _libri("train-clean-100", 12, "sha256:d4ddd1d5a6ab303066f14971d768ee43278a5f2a0aa43dc716b0e64ecbbbf6e2", 6.3),
        _libri("train-clean-360", 12, "sha256:146a56496217e96c14334a160df97fffedd6e0a04e66b9c5af0d40be3c792ecf", 23.0),
        _libri("train-other-500", 12, "sha256:ddb22f27f96ec163645d53215559df6aa36515f26e01dd70798188350adcb6d2", 30.0),
        _libri("dev-clean", 12, "sha256:76f87d090650617fca0cac8f88b9416e0ebf80350acb97b343a85fa903728ab3", 0.34),
        _libri("dev-other", 12, "sha256:12661c48e8c3fe1de2c1caa4c3e135193bfb1811584f11f569dd12645aa84365", 0.31),
        _libri("test-clean", 12, "sha256:39fde525e59672dc6d1551919b1478f724438a95aa55f874b576be21967e6c23", 0.35),
        _libri("test-other", 12, "sha256:d09c181bba5cf717b3dee7d4d592af11a3ee3a09e08ae025c5506f6ebe961c29", 0.33),
        _libri("train-clean-5", 31, "md5:5df7d4e78065366204ca6845bb08f490", 0.33),
        _libri("dev-clean-2", 31, "md5:6d7ab67ac6a1d2c993d050e16d61080d", 0.13),
    ]
)
"""LibriSpeech (OpenSLR 12) and mini LibriSpeech (OpenSLR 31): split → archive."""

TEDLIUM: dict[int, Archive] = {
    1: Archive(
        "TEDLIUM_release1.tar.gz",
        f"{OPENSLR}/7",
        "sha256:30301975fd8c5cac4040c261c0852f57cfa8adbbad2ce78e77e4986957445f27",
        21.0,
    ),
    2: Archive(
        "TEDLIUM_release2.tar.gz",
        f"{OPENSLR}/19",
        "sha256:93281b5fcaaae5c88671c9d000b443cb3c7ea3499ad12010b3934ca41a7b9c58",
        35.0,
    ),
    3: Archive(
        "TEDLIUM_release-3.tgz",
        f"{OPENSLR}/51",
        "sha256:ad1e454d14d1ad550bc2564c462d87c7a7ec83d4dc2b9210f22ab4973b9eccdb",
        54.0,
    ),
}
"""TED-LIUM: release → archive, which holds train, dev and test."""

MUSAN = Archive("musan.tar.gz", f"{OPENSLR}/17", "md5:0c472d4fc0c5141eca47ad1ffeb2a7df", 11.1)
RIRS = Archive("rirs_noises.zip", f"{OPENSLR}/28", "md5:e6f48e257286e05de56413b4779d8ffb", 1.3)

_DEMAND_MD5 = {
    "DKITCHEN": "7ffbf52d7f4699f96927846103dc8788",
    "DLIVING": "46741384d9e434a0bd8b3ec1830b6052",
    "DWASHING": "7e5ee9437ce9409c5f9a779b6212a240",
    "NFIELD": "a740046c6f4e174e16f5d568aaec5024",
    "NPARK": "80f1385a34d7f1705758926b57f138ce",
    "NRIVER": "54264db61d3fe073fb81f2e40e0d19b5",
    "OHALLWAY": "fe918bbb0e63e73d09ba7f4843ef33f1",
    "OMEETING": "62f7cfe7fe6d30b7d8a215fe37c2dfd2",
    "OOFFICE": "7b61cc2d182d5a654cb9c3101ddd4041",
    "PCAFETER": "99927d148128254141a9417d051510bb",
    "PRESTO": "b98d2e6854eeebb397f29a8ad7457092",
    "PSTATION": "d7448009f6c2aeb6ba570375df1750a3",
    "SPSQUARE": "205d0e7b8fe74504a2f8d252fc414b9e",
    "STRAFFIC": "2efa87262f272bbf9ba578088e81939c",
    "TBUS": "706b11b0d8504f9f3b3f3211e91b3863",
    "TCAR": "4d930012796bd298932245a26189f973",
    "TMETRO": "95daf4df678e13b120e14211e6d89571",
}
DEMAND: dict[str, Archive] = {
    name: Archive(f"{name}_16k.zip", ZENODO_DEMAND, f"md5:{md5}", 0.1) for name, md5 in _DEMAND_MD5.items()
}
"""DEMAND at 16 kHz: environment → archive."""

DEMAND_TEST = frozenset({"DLIVING", "OOFFICE", "TBUS", "SCAFE", "SPSQUARE"})
"""The environments that only test sets may use: those of the test set of Valentini-Botinhao et al. 2016,
"Investigating RNN-based speech enhancement methods for noise-robust text-to-speech"."""

_KNOWN = {
    archive.name: archive for archive in (*LIBRISPEECH.values(), *TEDLIUM.values(), MUSAN, RIRS, *DEMAND.values())
}


def known_checksum(name: str) -> str | None:
    """The checksum of an archive that has the name of a published one."""
    archive = _KNOWN.get(name)
    return archive.checksum if archive else None
