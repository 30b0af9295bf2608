"""The same rows prepared by proofbox, by TRL's SFTTrainer and by axolotl preprocess, as commands.

    python benchmarks/data_preparation.py --trl-python /tmp/bench-trl/bin/python \
        --axolotl-python /tmp/bench-axolotl/bin/python \
        --from code_alpaca_2k.json [--rows 1000000] [--repeats 3]

The rivals live in environments of their own, made with Python 3.11 by

    python -m venv /tmp/bench-trl
    /tmp/bench-trl/bin/pip install -c constraints.txt trl==1.16.0 torch transformers datasets
    python -m venv /tmp/bench-axolotl
    echo torch==2.13.0 > torch.txt
    /tmp/bench-axolotl/bin/pip install -c torch.txt axolotl==0.19.0

where pip must find a torch of that version without CUDA for the numbers to be those of a machine
without a GPU (axolotl brings everything else itself; nothing of it is replaced or changed).

Every tool gets the same JSON Lines with instruction, input and output, the same tokenizer and
ChatML template, two processes, and a cache that is empty; it must end with token ids and labels of
every row on disk, the answer alone supervised:

- proofbox: the preparing stage of `proofbox run`, every check included;
- TRL: the file read by `datasets`, made conversational prompts and completions, and given to
  `SFTTrainer`, until that is there (prepare_with_trl.py);
- axolotl: `axolotl preprocess` with the columns and the ChatML text in its configuration, which is
  the faster of its ways, and without the shuffling that it does by default;
- axolotl, chat template: the same with its strategy `chat_template`, which wants messages: they
  are written to a file before the clock starts.

Their token ids and labels are compared (prepared_tokens.py). The commands run one after another in
an order that rotates from repeat to repeat; each has run once before, on few rows. What the
tokenizer takes by itself is measured in the same run (tokenizer_speed.py).
Writes benchmarks/data_preparation.json; exits with 1 if a row's tokens or labels are different.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from measured_process import Measured, measure

HERE = Path(__file__).resolve().parent
PROCESSES = 2
WARMING_ROWS = 500
USER = "<|im_start|>user\n{instruction}%s<|im_end|>\n<|im_start|>assistant\n"
# What the configuration of axolotl needs, whatever the rows are. JSON is YAML.
AXOLOTL = {
    "tokenizer_type": "AutoTokenizer",
    "special_tokens": {"pad_token": "<|endoftext|>"},
    "dataset_num_proc": PROCESSES,
    "shuffle_merged_datasets": False,
    "val_set_size": 0,
    "sequence_len": 2048,
    "train_on_inputs": False,
    "micro_batch_size": 1,
    "gradient_accumulation_steps": 1,
    "num_epochs": 1,
    "learning_rate": 1e-4,
}
VERSIONS = ("axolotl", "trl", "transformers", "datasets", "tokenizers", "pyarrow", "torch", "numpy")


@dataclass(frozen=True, slots=True)
class Place:
    """The files that a measurement works with; ``work`` is new for each and then removed."""

    rows: Path
    model: Path
    work: Path

    @property
    def report(self) -> Path:
        """What a command says of itself."""
        return self.work / "report.json"


@dataclass(frozen=True, slots=True)
class Tool:
    """A command, and where it leaves the tokens."""

    python: str
    command: Callable[[Place], list[str]]
    files: Callable[[Place], Iterable[str]]


def tools(ours: str, trl: str | None, axolotl: str | None) -> dict[str, Tool]:
    """The tools for which there is an interpreter, proofbox first."""
    found = {"proofbox": Tool(ours, proofbox_command, lambda p: _report(p)["files"].values())}
    if trl:
        command = [trl, str(HERE / "prepare_with_trl.py"), "--processes", str(PROCESSES)]
        found["TRL"] = Tool(
            trl,
            lambda p: [*command, *map(str, (p.rows, p.model, p.report))],
            lambda p: _report(p)["files"],
        )
    if axolotl:
        found["axolotl"] = _axolotl(axolotl, columns)
        found["axolotl, chat template"] = _axolotl(axolotl, messages)
    return found


def proofbox_command(place: Place) -> list[str]:
    """The command for proofbox, its cache within ``place.work``."""
    script = str(HERE / "prepare_with_proofbox.py")
    paths = (place.rows, place.model, place.work / "cache", place.report)
    return [sys.executable, script, *map(str, paths)]


def _axolotl(python: str, dataset: Callable[[Place], dict[str, Any]]) -> Tool:
    def command(place: Place) -> list[str]:
        prepared, output = str(place.work / "prepared"), str(place.work / "output")
        configuration = {
            **AXOLOTL,
            "base_model": str(place.model),
            "dataset_prepared_path": prepared,
            "output_dir": output,
            "datasets": [{"ds_type": "json", **dataset(place)}],
        }
        file = place.work / "axolotl.yml"
        file.write_text(json.dumps(configuration))
        return [python, "-m", "axolotl.cli.main", "preprocess", str(file)]

    return Tool(python, command, lambda p: map(str, sorted(p.work.glob("prepared/*/*.arrow"))))


def columns(place: Place) -> dict[str, Any]:
    """The dataset of axolotl's configuration: columns, and the text around them."""
    fields = {f"field_{name}": name for name in ("instruction", "input", "output")}
    formats = {"format": USER % "\n\n{input}", "no_input_format": USER % ""}
    return {"path": str(place.rows), "type": {**fields, **formats}}


def messages(place: Place) -> dict[str, Any]:
    """The dataset of axolotl's configuration: messages, by the tokenizer's chat template."""
    path = place.rows.with_suffix(".messages.jsonl")
    if not path.exists():
        with place.rows.open(encoding="utf-8") as rows, path.open("w", encoding="utf-8") as file:
            for row in map(json.loads, rows):
                user = row["instruction"] + (f"\n\n{row['input']}" if row["input"] else "")
                turns = [("user", user), ("assistant", row["output"])]
                made = [{"role": role, "content": content} for role, content in turns]
                file.write(json.dumps({"messages": made}, ensure_ascii=False) + "\n")
    return {
        "path": str(path),
        "type": "chat_template",
        "chat_template": "tokenizer_default",
        "field_messages": "messages",
        "roles_to_train": ["assistant"],
        "train_on_eos": "turn",
    }


def _report(place: Place) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(place.report.read_text())
    return report


def environment(work: Path) -> dict[str, str]:
    """The environment of a command: caches and temporary files in ``work``, no network."""
    (work / "tmp").mkdir()
    return {
        **os.environ,
        "HF_HOME": str(work / "hf"),
        "HF_HUB_OFFLINE": "1",
        "AXOLOTL_DO_NOT_TRACK": "1",
        "TMPDIR": str(work / "tmp"),
    }


def run(tool: Tool, place: Place) -> Measured:
    """Run a tool once, in an empty ``place.work``."""
    shutil.rmtree(place.work, ignore_errors=True)
    place.work.mkdir()
    command = tool.command(place)
    return measure(command, environment(place.work), place.work / "log.txt")


def result(tool: Tool, place: Place, rows: int) -> dict[str, Any]:
    """Run a tool once and say what it took."""
    load = os.getloadavg()[0]
    os.sync()  # what the one before wrote is not written at this one's cost
    measured = run(tool, place)
    return {
        **asdict(measured),
        "rows_per_second": round(rows / measured.seconds),
        "rows_per_processor_second": round(rows / measured.processor_seconds),
        "steps": _report(place)["seconds"] if place.report.exists() else {},
        "load_before": round(load, 2),
    }


def make_files(folder: Path, rows: int, sources: list[Path]) -> Place:
    """Make the rows, and a base model whose tokenizer is learned from them."""
    place = Place(folder / "rows.jsonl", folder / "model", folder / "work")
    given = ["--from", *map(str, sources)] if sources else []
    _python("make_rows.py", str(place.rows), "--rows", str(rows), *given)
    _python("make_base_model.py", str(place.rows), str(place.model))
    return place


def _python(script: str, *arguments: str, threads: int | None = None) -> str:
    """Output of a script of this folder."""
    given = {} if threads is None else {"RAYON_NUM_THREADS": str(threads)}
    done = subprocess.run(
        [sys.executable, str(HERE / script), *arguments],
        env={**os.environ, **given}, stdout=subprocess.PIPE, check=True, text=True,
    )  # fmt: skip
    return done.stdout


def versions(python: str) -> dict[str, str]:
    """Versions of Python and of the packages that matter, as an interpreter has them."""
    code = (
        "import json, platform; from importlib.metadata import distributions as d; "
        "print(json.dumps({'python': platform.python_version(), "
        "**{x.metadata['Name']: x.version for x in d()}}))"
    )
    output = subprocess.run([python, "-c", code], stdout=subprocess.PIPE, check=True).stdout
    found = json.loads(output)
    return {name: found[name] for name in ("python", *VERSIONS) if name in found}


def machine() -> dict[str, Any]:
    """What was measured on, without names."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = {line.partition(":")[2].strip() for line in lines if line.startswith("model name")}
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "processor": ", ".join(sorted(models)),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
    }


def summary(runs: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Medians of each tool, and how many times as long as proofbox it takes."""
    names = ("seconds", "processor_seconds", "largest_process", "all_processes", "all_pages")
    medians = {t: {n: median(r[n] for r in made) for n in names} for t, made in runs.items()}
    ours = medians["proofbox"]
    return {
        tool: {
            **values,
            "times_proofbox": round(values["seconds"] / ours["seconds"], 2),
            "times_proofbox_processor": round(
                values["processor_seconds"] / ours["processor_seconds"], 2
            ),
        }
        for tool, values in medians.items()
    }


def fastest_rival(summed: dict[str, dict[str, float]]) -> dict[str, Any]:
    """The rival that is done first, and how many times as long as proofbox it takes."""
    rivals = {tool: values["times_proofbox"] for tool, values in summed.items()}
    del rivals["proofbox"]
    name = min(rivals, key=rivals.__getitem__, default="none")
    return {"name": name, "times_proofbox": rivals.get(name)}


def compare(chosen: dict[str, Tool], place: Place, repeats: int, rows: int) -> dict[str, Any]:
    """Run every tool ``repeats`` times, and compare what they make the first time."""
    few = make_few(place)
    for tool in chosen.values():
        run(tool, few)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in chosen}
    kept: dict[str, list[str]] = {}
    names = list(chosen)
    for repeat in range(repeats):
        for name in names[repeat % len(names) :] + names[: repeat % len(names)]:
            here = Place(place.rows, place.model, place.work / f"{repeat}-{names.index(name)}")
            place.work.mkdir(exist_ok=True)
            runs[name].append(result(chosen[name], here, rows))
            print(f"{name}: {runs[name][-1]}", flush=True)
            if repeat:
                shutil.rmtree(here.work)
            else:
                kept[name] = list(chosen[name].files(here))
        if not repeat:
            made = [f"{name}={','.join(files)}" for name, files in kept.items()]
            tokens = json.loads(_python("prepared_tokens.py", str(place.model), *made))
            print(json.dumps(tokens, indent=1), flush=True)
            shutil.rmtree(place.work)
    summed = summary(runs)
    rival = fastest_rival(summed)
    return {"summary": summed, "fastest_rival": rival, "tokens": tokens, "runs": runs}


def make_few(place: Place) -> Place:
    """The first few rows as a file of their own."""
    few = place.rows.with_name("few.jsonl")
    with place.rows.open(encoding="utf-8") as rows:
        few.write_text("".join(next(rows) for _ in range(WARMING_ROWS)), encoding="utf-8")
    return Place(few, place.model, place.work)


def main() -> None:
    """Measure what the command line asks for, and write it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--from", dest="sources", type=Path, nargs="+", default=[])
    parser.add_argument("--trl-python")
    parser.add_argument("--axolotl-python")
    parser.add_argument("--folder", type=Path, help="where it works; 20 GB for 1 million rows")
    parser.add_argument("--result", type=Path, default=HERE / "data_preparation.json")
    options = parser.parse_args()
    chosen = tools(sys.executable, options.trl_python, options.axolotl_python)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        place = make_files(Path(folder), options.rows, options.sources)
        measured = compare(chosen, place, options.repeats, options.rows)
        alone = {
            f"{threads} threads": json.loads(
                _python("tokenizer_speed.py", str(place.rows), str(place.model), threads=threads)
            )
            for threads in (1, PROCESSES)
        }
    found = {
        "rows": options.rows,
        "machine": machine(),
        "versions": {name: versions(tool.python) for name, tool in chosen.items()},
        **measured,
        "tokenizer_alone": alone,
    }
    options.result.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found["summary"], indent=1))
    if any(counts.get("different") for counts in found["tokens"].values()):
        raise SystemExit("tokens or labels differ between the tools")


if __name__ == "__main__":
    main()
