"""Execute notebooks and store their outputs; a second run over an unchanged one changes no byte.

`make notebooks` runs this over every notebook; `make notebooks ONLY=book/part/name.ipynb` over one.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
import resource
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

sys.path.insert(0, str(Path(__file__).parent))
from address import ROOT, repository  # noqa: E402

CELL_METADATA = ("mystnb", "tags")
TAGS = ("claim", "hide-cell", "hide-input", "hide-output", "remove-input")
KERNEL = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
COLAB_SOURCE = """\
import sys

if "google.colab" in sys.modules:  # only on Colab, whose torch stays as it is
    %pip install -q "bert-companion @ git+{repository}@main"
"""
COLAB_METADATA = {
    "mystnb": {"code_prompt_show": "On Colab: install the package"},
    "tags": ["hide-input"],
}


def paths() -> list[Path]:
    """List the notebooks of the book, in a fixed order."""
    return sorted(path for path in (ROOT / "book").rglob("*.ipynb") if ".ipynb_checkpoints" not in path.parts)


def colab_cell() -> NotebookNode:
    """Return the cell that installs the package on Colab and does nothing elsewhere."""
    source = COLAB_SOURCE.format(repository=repository()).rstrip()
    return nbformat.v4.new_code_cell(source, metadata=COLAB_METADATA)


def is_colab_cell(cell: NotebookNode) -> bool:
    """Tell whether `cell` is a Colab cell, of this version of it or another."""
    return cell.cell_type == "code" and '"google.colab" in sys.modules' in cell.source


def with_colab_cell(cells: list[NotebookNode]) -> list[NotebookNode]:
    """Return `cells` with the Colab cell of today right after the title."""
    wanted = colab_cell()
    present = [cell for cell in cells if is_colab_cell(cell) and cell.source == wanted.source]
    others = [cell for cell in cells if not is_colab_cell(cell)]
    return others[:1] + (present[:1] or [wanted]) + others[1:]


def fold_solutions(cells: list[NotebookNode]) -> None:
    """Fold every code cell between `## Solutions` and the next heading of that level."""
    inside = False
    for cell in cells:
        headings = re.findall(r"^## (.+)$", cell.source, re.M) if cell.cell_type == "markdown" else []
        inside = headings[-1].strip() == "Solutions" if headings else inside
        if inside and cell.cell_type == "code":
            cell.metadata["tags"] = ["hide-cell"]
            cell.metadata.setdefault("mystnb", {})["code_prompt_show"] = "Show the solution"


def fold_what_is_no_reading(cells: list[NotebookNode]) -> None:
    """Fold the imports and the code that only draws; mark a cell of claims alone, whose ✓ goes to its sentence."""
    code = [cell for cell in cells if cell.cell_type == "code" and not is_colab_cell(cell)]
    for place, cell in enumerate(code):
        if place == 0:
            fold(cell, "Imports")
        elif "figure" in cell.metadata.get("mystnb", {}):
            fold(cell, "Show the code of this figure")
        elif calls_only(cell.source, "claim"):
            cell.metadata["tags"] = ["claim"]
        elif calls_only(cell.source, "choice", "number"):
            cell.metadata["tags"] = ["remove-input"]  # the question is to be seen, not its answer


def fold(cell: NotebookNode, prompt: str) -> None:
    """Fold the code of `cell` under `prompt`, unless the whole cell is folded already."""
    if "hide-cell" not in cell.metadata.get("tags", ()):
        cell.metadata["tags"] = ["hide-input"]
        cell.metadata.setdefault("mystnb", {})["code_prompt_show"] = prompt


def calls_only(source: str, *names: str) -> bool:
    """Return whether `source` calls functions of these names and does nothing else."""
    if re.search(r"^\s*[%!]", source, re.MULTILINE):
        return False
    calls = [getattr(node, "value", None) for node in ast.parse(source).body]
    return all(isinstance(call, ast.Call) and getattr(call.func, "id", "") in names for call in calls)


def set_ids(cells: list[NotebookNode]) -> None:
    """Give every cell an id made from what it says, so that an id changes only with its cell."""
    seen: dict[str, int] = {}
    for cell in cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:12]
        seen[digest] = seen.get(digest, 0) + 1
        cell["id"] = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def join_streams(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join neighbouring outputs of one stream: how a kernel cuts them depends on timing."""
    joined: list[NotebookNode] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last["text"] += output.text
        else:
            joined.append(output)
    return joined


def normalise(notebook: NotebookNode) -> NotebookNode:
    """Bring cells, ids and metadata into their stored form; outputs stay as they are."""
    notebook["cells"] = with_colab_cell([cell for cell in notebook.cells if cell.source.strip()])
    notebook["metadata"] = nbformat.from_dict(KERNEL)
    notebook["nbformat"], notebook["nbformat_minor"] = 4, 5
    fold_what_is_no_reading(notebook.cells)
    fold_solutions(notebook.cells)
    for cell in notebook.cells:
        kept = {key: cell.metadata[key] for key in CELL_METADATA if key in cell.metadata}
        cell["metadata"] = nbformat.from_dict(kept)
        cell.pop("attachments", None)
        if cell.cell_type == "code":
            cell["outputs"] = join_streams(cell.outputs)
    set_ids(notebook.cells)
    return notebook


def execute(notebook: NotebookNode, folder: Path) -> NotebookNode:
    """Run every cell in a fresh kernel that starts in `folder`."""
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
        extra_arguments=["--log-level=ERROR"],
    )
    return client.execute()


def processor_seconds() -> float:
    """Return the processor time of all kernels that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def refresh(path: Path) -> bool:
    """Execute the notebook at `path` and store it; return whether its bytes changed."""
    notebook = normalise(nbformat.read(path, as_version=4))
    text = nbformat.writes(normalise(execute(notebook, path.parent))) + "\n"
    if text == path.read_text(encoding="utf-8"):
        return False
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)
    return True


def main(arguments: list[str]) -> None:
    """Refresh the notebooks named in `arguments`, or all of them."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for path in [Path(name).resolve() for name in arguments] or paths():
        before = processor_seconds()
        outcome = "stored" if refresh(path) else "unchanged"
        print(
            f"{path.relative_to(ROOT)}: {outcome}, {processor_seconds() - before:.0f} s of processor time", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])
