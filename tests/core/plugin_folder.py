"""Makes an installed distribution with plug-ins, as pip would leave it."""

from __future__ import annotations

from pathlib import Path


def install(
    site: Path, distribution: str, module: str, source: str, entry_points: str, version: str = "1"
) -> Path:
    """Write a module and the metadata of its distribution below `site`, a folder of packages."""
    site.mkdir(parents=True, exist_ok=True)
    (site / f"{module}.py").write_text(source, encoding="utf-8")
    info = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(entry_points, encoding="utf-8")
    return site
