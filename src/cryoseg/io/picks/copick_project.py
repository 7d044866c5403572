"""Tomograms and segmentations of copick projects as inputs; segmentations, picks and meshes as outputs.

copick needs an older zarr than most programs. It is therefore installed with the extra `copick`, and imported
only if an input or output names a project.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from cryoseg.errors import ConfigError, InputError, OutputError
from cryoseg.io.picks.copick_json import copick_content
from cryoseg.io.picks.copick_paths import COPICK_MEMBER, COPICK_SCHEME
from cryoseg.io.picks.frame import PickFrame
from cryoseg.types import BoolArray, Picks

_URI = re.compile(r"copick://(?P<config>[^?]+)(?:\?(?P<query>.*))?")
_TARGET = re.compile(r"(?P<name>[^:/@]+)(?::(?P<user>[^:/@_]+)/(?P<session>[^:/@_]+))?(?:@(?P<size>[\d.]+))?")
_KINDS = ("tomogram", "segmentation")
_DEFAULT_USER, _DEFAULT_SESSION = "cryoseg", "1"


def find_members(uri: str) -> list[Path]:
    """Find the volumes that a URI names.

    Parameters
    ----------
    uri
        `copick://config.json?run=TS_1&tomogram=wbp@10`. `run` takes wildcards and commas and is `*` by
        default; `tomogram=TYPE@VOXEL` or `segmentation=NAME:USER/SESSION@VOXEL` as copick spells them.

    Returns
    -------
    list of Path
        Folders of the OME-Zarr volumes, sorted by run.

    Raises
    ------
    InputError
        If the URI has another form, copick is missing, or the project holds no such volume on this
        computer's disks.
    """
    config, query = _split(uri)
    kinds = [kind for kind in _KINDS if kind in query]
    if len(kinds) != 1 or set(query) - {"run", *kinds}:
        raise InputError(
            f"{uri}: write copick://config.json?run=TS_1&tomogram=wbp@10, or "
            "segmentation=NAME:USER/SESSION@10 in place of the tomogram."
        )
    (kind,) = kinds
    patterns = query.get("run", "*").split(",")
    project = _Project(config)
    runs = [run for run in project.runs() if any(fnmatchcase(run, pattern) for pattern in patterns)]
    found = [path for run in sorted(runs) for path in project.volumes(kind, query[kind], run)]
    if not found:
        known = ", ".join(sorted(project.runs())[:5]) or "none"
        raise InputError(f"{uri}: the project holds no such {kind}; its runs are {known}.")
    return found


def _split(uri: str) -> tuple[Path, dict[str, str]]:
    found = _URI.fullmatch(uri)
    if found is None:
        raise InputError(f"{uri}: write copick://config.json?run=TS_1&tomogram=wbp@10.")
    return Path(found["config"]), dict(parse_qsl(found["query"] or "", keep_blank_values=True))


@dataclass(frozen=True)
class CopickOutput:
    """Where the results of a batch are stored in a copick project.

    Attributes
    ----------
    config
        Configuration of the project.
    name, user, session
        Name of the pickable object, and user and session of the new segmentation, picks or mesh.
    kind
        What is stored: `segmentation`, `picks` or `mesh`.
    overwrite
        Whether those of the same names are replaced.
    """

    config: Path
    name: str
    user: str
    session: str
    kind: str
    overwrite: bool = False

    @classmethod
    def parse(cls, text: str, inputs: Sequence[str | Path], *, kind: str, overwrite: bool) -> CopickOutput:
        """Read the option `--copick`.

        Parameters
        ----------
        text
            `NAME:USER/SESSION` in the project of the inputs, or `copick://config.json?segmentation=...`;
            user and session are `cryoseg` and `1` by default.
        inputs
            Inputs as they were given.
        kind
            What is stored: `segmentation`, `picks` or `mesh`.
        overwrite
            Whether existing results are replaced.

        Raises
        ------
        ConfigError
            If the text has another form, or the inputs name no project or several.
        """
        configs = {_split(str(one))[0] for one in inputs if str(one).startswith(COPICK_SCHEME)}
        target = text
        if text.startswith(COPICK_SCHEME):
            config, query = _split(text)
            configs, target = {config}, next(iter(query.values()), "")
        found = _TARGET.fullmatch(target)
        if found is None:
            raise ConfigError(f"--copick {text}: write NAME:USER/SESSION, such as membrane:cryoseg/1.")
        if len(configs) != 1:
            raise ConfigError(
                f"--copick {text}: the inputs name {len(configs)} copick projects. Give inputs of one, as "
                "copick://config.json?tomogram=wbp@10."
            )
        return cls(
            config=configs.pop().absolute(),
            name=found["name"],
            user=found["user"] or _DEFAULT_USER,
            session=found["session"] or _DEFAULT_SESSION,
            kind=kind,
            overwrite=overwrite,
        )

    @property
    def uri(self) -> str:
        """The text that `parse` reads without inputs."""
        return f"{COPICK_SCHEME}{self.config}?{self.kind}={self.name}:{self.user}/{self.session}"

    def check(self, path: Path) -> None:
        """Refuse an input whose result cannot be stored, before the work on it.

        Raises
        ------
        OutputError
            If the input lies in no project, the project has no object of the name, or the result exists.
        """
        run, size = self._place(path)
        project = _Project(self.config)
        names = [one.name for one in project.root.pickable_objects]
        if self.name not in names:
            raise OutputError(
                f"{self.config}: the project has no object {self.name}, only {', '.join(names) or 'none'}. "
                f"Add it with `copick add object -c {self.config} --name {self.name}`."
            )
        if self.overwrite:
            return
        owner = {"user_id": self.user, "session_id": self.session}
        found = project.root.get_run(run)
        if self.kind == "picks":
            exists = found.get_picks(object_name=self.name, **owner)
        elif self.kind == "mesh":
            exists = found.get_meshes(object_name=self.name, **owner)
        else:
            exists = found.get_segmentations(name=self.name, voxel_size=size, **owner)
        if exists:
            raise OutputError(
                f"{self.config}: run {run} has {self.kind} {self.name}:{self.user}/{self.session} already. "
                "Pass --overwrite to replace them, or name another session."
            )

    def write_segmentation(self, path: Path, mask: BoolArray) -> None:
        """Store the mask (z, y, x) of an input as a segmentation with the voxel size of its tomogram.

        Raises
        ------
        OutputError
            If it cannot be stored.
        """
        with self._run(path, "segmentation") as run:
            _, size = self._place(path)
            stored = run.new_segmentation(
                voxel_size=size,
                name=self.name,
                session_id=self.session,
                user_id=self.user,
                exist_ok=True,
            )
            stored.from_numpy(mask.astype(np.uint8))

    def write_picks(self, path: Path, picks: Picks, frame: PickFrame) -> None:
        """Store the picks of an input, with their orientations, scores and filaments.

        Raises
        ------
        OutputError
            If they cannot be stored.
        """
        from copick.models import CopickPicksFile

        content = copick_content(path, self._place(path)[0], picks, frame)
        content |= {"pickable_object_name": self.name, "user_id": self.user}
        with self._run(path, "picks") as run:
            stored = run.new_picks(self.name, self.session, user_id=self.user, exist_ok=True)
            stored.points = CopickPicksFile(**content).points
            stored.store()

    def write_mesh(self, path: Path, mesh: Path) -> None:
        """Store a GLB file, in angstrom from the center of the first voxel, as the mesh of an input.

        Raises
        ------
        OutputError
            If it cannot be stored.
        """
        import trimesh

        with self._run(path, "mesh") as run:
            stored = run.new_mesh(self.name, self.session, user_id=self.user, exist_ok=True)
            stored.mesh = trimesh.load(mesh, file_type="glb")
            stored.store()

    @contextmanager
    def _run(self, path: Path, kind: str) -> Iterator[Any]:
        """Yield the run of an input, and raise errors of copick in the block as an `OutputError`."""
        name, _ = self._place(path)
        try:
            yield _Project(self.config).root.get_run(name)
        except (OSError, ValueError) as error:
            raise OutputError(f"{self.config}: copick cannot store the {kind} ({error}).") from error

    def _place(self, path: Path) -> tuple[str, float]:
        """Return run and voxel size of an input."""
        found = COPICK_MEMBER.search(path.absolute().as_posix())
        if found is None:
            raise OutputError(f"{path}: lies in no copick project, so --copick cannot store its result.")
        return found["run"], float(found["size"])


def copick_output(
    text: str | None, inputs: Sequence[str | Path], *, kind: str, overwrite: bool
) -> CopickOutput | None:
    """Read the option `--copick`, as `CopickOutput.parse`; None if the option was not given."""
    return None if text is None else CopickOutput.parse(text, inputs, kind=kind, overwrite=overwrite)


class _Project:
    """An opened project."""

    def __init__(self, config: Path) -> None:
        try:
            import copick
        except ImportError as error:
            raise InputError(
                f"{config}: copick is not installed. Run pip install 'cryoseg[copick]' in an environment of "
                "its own."
            ) from error
        if not config.is_file():
            raise InputError(f"{config}: no such file. Give the configuration of a copick project.")
        self._config = config
        try:
            self.root: Any = copick.from_file(str(config))
        except Exception as error:  # copick raises errors of any type for damaged JSON.
            raise self._damaged(error) from error

    def runs(self) -> list[str]:
        return [str(run.name) for run in self.root.runs]

    def volumes(self, kind: str, uri: str, run: str) -> Iterator[Path]:
        from copick.util.uri import resolve_copick_objects

        try:
            for one in resolve_copick_objects(uri, self.root, kind, run_name=run):
                store = one.zarr()
                protocols = np.atleast_1d(store.fs.protocol).tolist()
                if not {"file", "local"} & set(protocols):
                    raise InputError(
                        f"{self._config}: the {kind} of run {run} lies on {protocols[0]}, not on a local "
                        f"disk. Copy it to a local project with `copick sync {kind}s -c {self._config} "
                        "--target-config LOCAL.json`."
                    )
                yield Path(store.fs._strip_protocol(store.path))
        except ValueError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: Exception) -> InputError:
        text = " ".join(str(error).split())
        return InputError(f"{self._config}: copick cannot use the project ({type(error).__name__}: {text}).")
