"""What MkDocs builds from the source: the file tree, the API reference, links to it.

`mkdocs.yml` names this file under `hooks`; MkDocs calls the `on_...` functions.
"""

import ast
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src/arm"
TREE = "<!-- tree -->"
SOURCE_SPAN = re.compile(r"(?<!\[)`(src/arm/[\w/]+\.py)`")
"""A source file in backticks that is not a link's text yet."""


def modules() -> dict[str, list[Path]]:
    """The modules of each package that are documented: {"": [src/arm/config.py, ...], "models": ...}."""
    packages: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        package = path.parent.relative_to(PACKAGE).as_posix().replace(".", "")
        if is_documented(path):
            packages.setdefault(package, []).append(path)
    return packages


def is_documented(path: Path) -> bool:
    """Whether a source file has a page in the API reference."""
    return path.name not in ("__init__.py", "__main__.py")


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring on one line, without a closing full stop."""
    docstring = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not docstring:
        raise PluginError(f"{path.relative_to(ROOT)} has no docstring for the tree of files")
    return " ".join(docstring.split("\n\n")[0].split()).removesuffix(".")


def reference_page(path: Path) -> str:
    """The page of a module in the API reference, from the folder docs/."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return f"reference/{'.'.join(parts)}.md"


def tree() -> str:
    """Every source file with the summary of its docstring, as a table for each package."""
    lines = []
    for package, paths in modules().items():
        init = PACKAGE / package / "__init__.py"
        folder = f"src/arm/{package}/" if package else "src/arm/"
        lines += [f"### `{folder}`", "", f"{summary(init)}.", "", "| file | what it holds |"]
        lines += ["|---|---|"]
        lines += [f"| [`{p.name}`]({reference_page(p)}) | {cell(summary(p))} |" for p in paths]
        lines += [""]
    return "\n".join(lines)


def cell(text: str) -> str:
    """Text as the cell of a Markdown table."""
    return text.replace("|", r"\|")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Adds the API reference to the navigation."""
    sections = [
        {f"arm.{package}".rstrip("."): [{p.stem: reference_page(p)} for p in paths]}
        for package, paths in ((k.replace("/", "."), v) for k, v in modules().items())
    ]
    config.nav = [*(config.nav or []), {"API reference": sections}]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds a page for each module, which mkdocstrings fills."""
    for paths in modules().values():
        for path in paths:
            name = ".".join(("arm", *path.relative_to(PACKAGE).with_suffix("").parts))
            text = f"# `{name}`\n\n::: {name}\n"
            files.append(File.generated(config, reference_page(path), content=text))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Fills in the tree of files, and turns source files in backticks into links to their reference."""
    up = "../" * page.file.src_uri.count("/")

    def link(match: re.Match[str]) -> str:
        path = ROOT / match[1]
        if not path.is_file():
            raise PluginError(f"{page.file.src_uri} names {match[1]}, which does not exist")
        if not is_documented(path):
            return match[0]
        return f"[`{match[1]}`]({up}{reference_page(path)})"

    if TREE in markdown:
        markdown = markdown.replace(TREE, tree())
    return SOURCE_SPAN.sub(link, markdown)
