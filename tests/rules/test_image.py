"""The image: what its Dockerfile does is done here without it, for its base cannot be had everywhere.

The wheel is built from what the Dockerfile copies, and installed into an environment of its own, without pip.
"""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from exporter import __version__

ROOT = Path(__file__).parents[2]
DOCKERFILE = re.sub(r"^ *#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE).replace("\\\n", " ")
STAGES = re.split(r"^(?=FROM )", DOCKERFILE, flags=re.MULTILINE)[1:]
BUILD, FINAL = (stage.splitlines() for stage in STAGES)
COMPILED_BY_HASH_UNCHECKED = 0b01
"""The flags in a .pyc that hold whatever the time of its source is (PEP 552)."""


def copied() -> list[str]:
    """What the build stage takes from the checkout."""
    lines = [shlex.split(line) for line in BUILD if line.startswith("COPY ")]
    return [name for line in lines for name in line[1:-1]]


def commands(stage: list[str]) -> list[list[str]]:
    runs = [line.removeprefix("RUN ") for line in stage if line.startswith("RUN ")]
    return [shlex.split(command) for run in runs for command in run.split("&&")]


def tracked(*under: str) -> set[str]:
    command = ["git", "ls-files", "-co", "--exclude-standard", *under]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return {name for name in listed.stdout.splitlines() if (ROOT / name).is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built in a folder that holds nothing but what the Dockerfile copies, by the command of the Dockerfile."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in copied():
        for path in tracked(name):
            (source / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / path, source / path)
    (build,) = [command for command in commands(BUILD) if "hatchling" in command]
    arguments = [str(target) if word == "/dist" else word for word in build[1:]]
    result = subprocess.run([sys.executable, *arguments], cwd=source, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = target.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment without pip, with the wheel and no more, compiled as the Dockerfile says."""
    home = tmp_path_factory.mktemp("image") / "mayday"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    for command in commands(BUILD):
        if "/dist/*.whl" in command:
            words = [str(wheel) if word == "/dist/*.whl" else word for word in command[1:]]
        elif "compileall" in command:
            words = command[1:]
        else:
            continue
        words = [word.replace("/opt/mayday", str(home)) for word in words]
        program = [home / "bin/python"] if "compileall" in command else [sys.executable, "-m", "pip"]
        subprocess.run([*program, *words], check=True, capture_output=True)
    return home


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """An installed command; what Mayday depends on is lent by the tests' environment, without its `.pth` files."""
    environment = {
        "PYTHONPATH": sysconfig.get_path("purelib"),
        "PYTHONDONTWRITEBYTECODE": "1",
        "GLUETUN_CONTAINER_NAME": "a",
        "GLUETUN_CONTAINER_NAME_2": "b",
    }
    command = [str(home / "bin" / arguments[0]), *arguments[1:]]
    return subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)


def test_the_wheel_holds_the_program_and_all_of_it(wheel: Path) -> None:
    """Every file of the package, those that are no Python too (the page's script and style), and nothing else."""
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    assert names == tracked("exporter")
    assert {Path(name).suffix for name in names} > {".py"}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    """Its version is the program's, its licence is in it, and its command is `mayday`."""
    archive = zipfile.ZipFile(wheel)
    inside = {name.partition(".dist-info/")[2]: name for name in archive.namelist() if ".dist-info/" in name}
    assert f"\nVersion: {__version__}\n" in archive.read(inside["METADATA"]).decode()
    assert "licenses/LICENSE" in inside
    assert "mayday = exporter.cli:main" in archive.read(inside["entry_points.txt"]).decode()


def test_the_wheel_starts_from_nothing_but_itself(installed: Path) -> None:
    """`mayday --version` and `--check-config` work from the installed wheel, not from this checkout."""
    assert run(installed, "mayday", "--version").stdout == f"mayday {__version__}\n"
    checked = run(installed, "mayday", "--check-config")
    assert checked.returncode == 0, checked.stderr
    where = run(installed, "python", "-c", "import exporter.web.page as page; print(page.__file__)")
    assert where.stdout.startswith(f"{installed}/"), where.stderr


def test_everything_is_compiled_and_stays_so(installed: Path) -> None:
    """A file system that cannot be written to finds each module compiled, whatever became of the files' times."""
    package = next(installed.glob("lib/python*/site-packages/exporter"))
    tag = sys.implementation.cache_tag
    for path in package.rglob("*.py"):
        compiled = path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc"
        assert int.from_bytes(compiled.read_bytes()[4:8], "little") == COMPILED_BY_HASH_UNCHECKED, path


def test_the_standard_library_is_compiled_too() -> None:
    """The command in the last stage compiles all that Mayday imports of it."""
    (command,) = [words for words in commands(FINAL) if "compileall" in words]
    assert command[:3] == ["python", "-m", "compileall"]
    assert command[command.index("--invalidation-mode") + 1] == "unchecked-hash"
    left_out = re.compile(command[command.index("-x") + 1])
    stdlib = sysconfig.get_path("stdlib")
    code = "import sys, exporter.app; print(*(getattr(m, '__file__', None) for m in sys.modules.values()))"
    imported = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    paths = [path for path in imported.stdout.split() if path.startswith(stdlib) and path.endswith(".py")]
    assert len(paths) > 50
    assert [path for path in paths if "site-packages" not in path and left_out.search(path)] == []


def test_whatever_is_installed_has_its_hash_checked() -> None:
    """All that comes from elsewhere is in a lock file with hashes; the wheel itself asks no index."""
    for command in commands(BUILD):
        if "install" in command and command[0].endswith("pip"):
            assert "--require-hashes" in command or {"--no-index", "--no-deps"} <= set(command), command
    for name in ("requirements.lock", "requirements-build.lock"):
        lines = (ROOT / name).read_text().splitlines()
        packages = [number for number, line in enumerate(lines) if "==" in line]
        assert packages
        assert all(lines[number + 1].lstrip().startswith("--hash=sha256:") for number in packages)


def test_the_wheel_is_built_by_what_the_tests_built_it_with() -> None:
    """requirements-build.lock has what [build-system] asks for, in the versions of requirements-dev.lock."""
    pinned, tested = (
        dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / name).read_text(), re.MULTILINE))
        for name in ("requirements-build.lock", "requirements-dev.lock")
    )
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"]
    assert {re.split(r"[<>=~!]", name)[0] for name in wanted} <= pinned.keys()
    assert pinned.items() <= tested.items()


def test_the_context_is_what_is_copied() -> None:
    """.dockerignore lets through what the Dockerfile copies, and nothing else: no secret, no journal, no `.env`."""
    lines = (ROOT / ".dockerignore").read_text().split()
    assert lines[0] == "*"
    assert sorted(line.removeprefix("!") for line in lines if line.startswith("!")) == sorted(copied())


def test_the_image_runs_without_rights() -> None:
    """Not as root, nothing to write but its volume, no shell in between, its health asked for by its own command."""
    for line in (
        "USER 65532:65532",
        "VOLUME /var/lib/mayday",
        'ENTRYPOINT ["mayday"]',
        'CMD ["serve"]',
        "STOPSIGNAL SIGTERM",
    ):
        assert FINAL.count(line) == 1, line
    (health,) = [line for line in FINAL if line.startswith("HEALTHCHECK ")]
    assert health.endswith('CMD ["mayday", "health"]')
    before, after = FINAL[: FINAL.index("USER 65532:65532")], FINAL[FINAL.index("USER 65532:65532") :]
    assert any(line.startswith("COPY --from=build /opt/mayday ") for line in before)
    assert not [line for line in after if line.startswith(("RUN", "COPY", "ADD", "USER"))][1:]


def test_the_image_says_what_it_is() -> None:
    """Its labels are those of the OCI image specification; what only a release knows is given to the build."""
    labels = dict(re.findall(r'([\w.]+)="([^"]*)"', next(line for line in FINAL if line.startswith("LABEL "))))
    assert labels["mayday.sidecar"] == "true"
    for name in ("title", "description", "licenses", "version", "revision", "created", "source", "base.name"):
        assert labels[f"org.opencontainers.image.{name}"]
    arguments = {line.split()[1].partition("=")[0] for line in FINAL if line.startswith("ARG ")}
    assert {name for text in labels.values() for name in re.findall(r"\$\{(\w+)\}", text)} == arguments
