"""`proofbox eval`: adapters and models that were trained by code outside this project."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evalsuite.record_files import read_evidence, read_verdict
from runner.cli import guarded
from runner.commands.compare import compare
from runner.commands.eval import evaluate
from runner.commands.finalize import finalize
from runner.commands.gate import gate
from runner.commands.release import release
from runner.commands.report import report
from runner.commands.verify import verify
from runner.run_folder import RunFolder
from runner.statement import STATEMENT
from runner.stored_json import read_json
from runner.training.adapter_files import folder_digest

ROWS = [{"instruction": f"Add {n} to x.", "input": "", "output": f"x + {n}"} for n in range(60)]
TEST = ROWS[36:]


def rendered(tokenizer: Any, row: dict[str, str]) -> tuple[Any, Any]:
    """Token ids and labels of one row, by nothing but the tokenizer. [tokens] each."""
    import torch

    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": row["instruction"]}], tokenize=False,
        add_generation_prompt=True,
    )  # fmt: skip
    given = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    answer = tokenizer(row["output"] + tokenizer.eos_token, add_special_tokens=False)["input_ids"]
    labels = [-100] * len(given) + answer
    return torch.tensor([given + answer]), torch.tensor([labels])


def train_elsewhere(base: Path, target: Path, *, method: str = "lora", steps: int = 40) -> None:
    """Plain peft and torch: what somebody else's script does."""
    import torch
    from peft import IA3Config, LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(base)
    plain = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = (
        LoraConfig(
            task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "o_proj"]
        )
        if method == "lora"
        else IA3Config(
            task_type="CAUSAL_LM", target_modules=["k_proj", "down_proj"],
            feedforward_modules=["down_proj"],
        )
    )  # fmt: skip
    model = get_peft_model(plain, config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.03)
    for step in range(steps):
        ids, labels = rendered(tokenizer, ROWS[step % 30])
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(target)


def reference_loss(base: Path, adapter: Path | None) -> float:
    """The held-out loss in nats per supervised token: ten lines, float64, one row at a time."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float64)
    if adapter is not None:
        model = PeftModel.from_pretrained(model, adapter).double().eval()
    total, tokens = 0.0, 0
    for row in TEST:
        ids, labels = rendered(tokenizer, row)
        with torch.no_grad():
            chances = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
        wanted = labels[0, 1:]
        places = wanted != -100
        total -= float(chances[places].gather(-1, wanted[places][:, None]).sum())
        tokens += int(places.sum())
    return total / tokens


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("judged")
    (folder / "rows.json").write_text(json.dumps(ROWS))
    return folder


@pytest.fixture(scope="module")
def recipe(project: Path, tiny_model_folder: Path) -> Path:
    path = project / "judged.json"
    path.write_text(json.dumps({
        "version": 1,
        "name": "judged",
        "dataset": {
            "source": "rows.json",
            "partition": {"by": "position", "train": 0.5, "validation": 0.1, "test": 0.4},
        },
        "model": {"base": str(tiny_model_folder), "dtype": "float32"},
        "training": {"max_steps": 1, "batch_size": 1, "learning_rate": 1e-4},
        "evaluation": {
            "loss": ["test"],
            "generation": [
                {"name": "answers", "limit": 4, "decoding": {"max_new_tokens": 6},
                 "metrics": ["exact_match", "chrf"]}
            ],
        },
        "gates": [{"metric": "test.loss", "claim": "superior", "margin": 0.1}],
        "hardware": {"device": "cpu", "threads": 1},
    }))  # fmt: skip
    return path


@pytest.fixture(scope="module")
def adapter(project: Path, tiny_model_folder: Path) -> Path:
    train_elsewhere(tiny_model_folder, project / "their-adapter")
    return project / "their-adapter"


@pytest.fixture(scope="module")
def judged(project: Path, recipe: Path, adapter: Path) -> RunFolder:
    code = guarded(
        lambda: evaluate(str(adapter), recipe=str(recipe), runs=project / "runs", device=None)
    )
    assert code == 0
    (folder,) = (project / "runs" / "judged").glob("eval-*")
    return RunFolder(folder)


@pytest.fixture
def judge(recipe: Path, tmp_path: Path) -> Callable[..., int]:
    def run(target: Path, *, by: Path = recipe) -> int:
        return guarded(
            lambda: evaluate(str(target), recipe=str(by), runs=tmp_path / "runs", device=None)
        )

    return run


def measured_loss(folder: RunFolder, subject: str) -> float:
    found = read_evidence(folder.evidence).measurement("test.loss", subject)  # type: ignore[arg-type] # a Literal
    assert found is not None
    return found.value


def test_the_loss_is_that_of_a_ten_line_loop_in_float64(
    judged: RunFolder, adapter: Path, tiny_model_folder: Path
) -> None:
    base = reference_loss(tiny_model_folder, None)
    theirs = reference_loss(tiny_model_folder, adapter)
    assert base - theirs > 0.3  # there is something to see
    assert measured_loss(judged, "base") == pytest.approx(base, rel=1e-6)
    assert measured_loss(judged, "adapter") == pytest.approx(theirs, rel=1e-6)


def test_the_records_say_that_it_was_trained_elsewhere(judged: RunFolder, adapter: Path) -> None:
    subject = read_json(judged.target)
    assert subject["kind"] == "adapter"
    assert subject["name"] == "their-adapter"
    assert subject["settings"]["r"] == 4
    assert subject["digest"] == folder_digest(judged.adapter)
    assert read_json(judged.lock)["target"]["digest"] == subject["digest"]
    assert read_verdict(judged.verdict).adapter_digest == subject["digest"]
    assert not judged.training.exists()
    assert not judged.reload.exists()
    page = judged.report.read_text()
    assert "elsewhere; how, and on which data, is not known here" in page
    assert "Training curve" not in page
    weights = "adapter_model.safetensors"
    assert (judged.adapter / weights).read_bytes() == (adapter / weights).read_bytes()


def test_a_second_time_nothing_is_evaluated_again(
    judged: RunFolder, adapter: Path, recipe: Path, project: Path, capsys: Any
) -> None:
    before = (judged.evaluation / "adapter" / "loss.parquet").stat().st_mtime_ns
    code = guarded(
        lambda: evaluate(str(adapter), recipe=str(recipe), runs=project / "runs", device=None)
    )
    assert code == 0
    assert capsys.readouterr().err.count("done before") == 2
    assert (judged.evaluation / "adapter" / "loss.parquet").stat().st_mtime_ns == before


def test_the_other_commands_take_its_folder(judged: RunFolder, tmp_path: Path, capsys: Any) -> None:
    copies = [tmp_path / name for name in ("judged", "other")]
    for copy in copies:
        shutil.copytree(judged.path, copy)
    lock = read_json(copies[1] / "lock.json")
    (copies[1] / "lock.json").write_text(json.dumps({**lock, "run_id": "eval-other"}))
    assert guarded(lambda: gate(copies[0], recipe=None)) == 0
    assert guarded(lambda: report(copies[0], out=tmp_path / "again.html")) == 0
    assert (tmp_path / "again.html").read_bytes() == judged.report.read_bytes()
    assert guarded(lambda: compare(copies)) == 0
    assert guarded(lambda: finalize(copies[0], recipe=None, device=None)) == 2
    assert guarded(lambda: release(copies[0], final=True)) == 2
    assert "Traceback" not in capsys.readouterr().err


def test_it_is_released_and_verified_like_one_of_our_own(judged: RunFolder, tmp_path: Path) -> None:
    from huggingface_hub import ModelCard

    copy = RunFolder(tmp_path / "judged")
    shutil.copytree(judged.path, copy.path)
    assert guarded(lambda: release(copy.path, final=False)) == 0
    assert guarded(lambda: verify(copy.release, key=None)) == 0
    predicate = read_json(copy.release / STATEMENT)["predicate"]
    assert predicate["judged"]["trained"] == "elsewhere"
    text = (copy.release / "README.md").read_text()
    assert "trained elsewhere and judged by proofbox" in text
    assert "Whether the adapter had seen any of these examples in its training is not known" in text
    assert "lora.r" not in text  # the recipe's, which had no part in it
    assert "training.learning_rate" not in text
    assert ModelCard(text).data.eval_results
    content = bytearray((copy.release / "subject.json").read_bytes())
    (copy.release / "subject.json").write_bytes(content.replace(b"their-adapter", b"your-adapter"))
    assert guarded(lambda: verify(copy.release, key=None)) == 1


def test_a_changed_copy_is_not_released(judged: RunFolder, tmp_path: Path, capsys: Any) -> None:
    copy = RunFolder(tmp_path / "judged")
    shutil.copytree(judged.path, copy.path)
    weights = copy.adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert guarded(lambda: release(copy.path, final=False)) == 4
    assert "not the one that was judged" in capsys.readouterr().err


def test_a_merged_model_gets_the_adapters_loss(
    judged: RunFolder, adapter: Path, tiny_model_folder: Path, judge: Callable[..., int],
    tmp_path: Path, capsys: Any,
) -> None:  # fmt: skip
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    plain = AutoModelForCausalLM.from_pretrained(tiny_model_folder, dtype=torch.float32)
    PeftModel.from_pretrained(plain, adapter).merge_and_unload().save_pretrained(tmp_path / "whole")
    assert judge(tmp_path / "whole") == 0
    (folder,) = map(RunFolder, (tmp_path / "runs" / "judged").glob("eval-*"))
    assert measured_loss(folder, "adapter") == pytest.approx(
        measured_loss(judged, "adapter"), rel=1e-5
    )
    assert not folder.adapter.exists()
    assert guarded(lambda: release(folder.path, final=False)) == 2
    assert "Only adapters are packed" in capsys.readouterr().err


def test_the_verdict_decides_the_exit_code(
    judge: Callable[..., int], recipe: Path, adapter: Path, tmp_path: Path
) -> None:
    value = json.loads(recipe.read_text())
    for margin, code in ((50.0, 1), (None, 3)):
        gates = [] if margin is None else [{**value["gates"][0], "margin": margin}]
        other = recipe.with_name(f"margin-{margin}.json")
        other.write_text(json.dumps({**value, "gates": gates}))
        assert judge(adapter, by=other) == code
    assert not list(tmp_path.rglob("release"))


def test_other_methods_of_peft_are_judged(
    judge: Callable[..., int], tiny_model_folder: Path, tmp_path: Path
) -> None:
    train_elsewhere(tiny_model_folder, tmp_path / "ia3", method="ia3")
    assert judge(tmp_path / "ia3") in (0, 1, 3)
    (folder,) = map(RunFolder, (tmp_path / "runs" / "judged").glob("eval-*"))
    expected = reference_loss(tiny_model_folder, tmp_path / "ia3")
    assert measured_loss(folder, "adapter") == pytest.approx(expected, rel=1e-6)


def test_another_base_model_in_its_configuration_is_told(
    judge: Callable[..., int], adapter: Path, tmp_path: Path, capsys: Any
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(adapter, theirs)
    config = json.loads((theirs / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = "somebody/base"
    (theirs / "adapter_config.json").write_text(json.dumps(config))
    assert judge(theirs) == 0
    words = "names the base model 'somebody/base'; it is judged on the recipe's"
    assert words in capsys.readouterr().err
    (folder,) = map(RunFolder, (tmp_path / "runs" / "judged").glob("eval-*"))
    assert any(words in decision for decision in read_json(folder.lock)["decisions"])
    assert "somebody/base" in folder.report.read_text()


def unchanged(folder: Path) -> None:
    """As initialised: B is zero, and the adapter does nothing."""
    rewrite(folder, lambda name, tensor: tensor * 0 if "lora_B" in name else tensor)


def in_part(folder: Path) -> None:
    rewrite(folder, lambda name, tensor: None if ".layers.1." in name else tensor)


def from_a_deeper_model(folder: Path) -> None:
    import safetensors.torch

    file = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    deeper = {name.replace(".layers.1.", ".layers.2."): t.clone() for name, t in tensors.items()}
    safetensors.torch.save_file({**tensors, **deeper}, file)


def from_a_wider_model(folder: Path) -> None:
    rewrite(folder, lambda name, tensor: tensor.repeat(1, 2) if "lora_A" in name else tensor)


def pickled(folder: Path) -> None:
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")


def virtual_tokens(folder: Path) -> None:
    file = folder / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "peft_type": "PROMPT_TUNING"}))


def torn(folder: Path) -> None:
    file = folder / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def torn_configuration(folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{")


def rewrite(folder: Path, change: Callable[[str, Any], Any]) -> None:
    import safetensors.torch

    file = folder / "adapter_model.safetensors"
    tensors = safetensors.torch.load_file(file)
    changed = {name: change(name, tensor) for name, tensor in tensors.items()}
    kept = {name: t.contiguous() for name, t in changed.items() if t is not None}
    safetensors.torch.save_file(kept, file)


FAULTS: dict[str, tuple[Callable[[Path], None], str]] = {
    "unchanged": (unchanged, "the adapter changes nothing"),
    "in part": (in_part, "places of the adapter's configuration got no tensor"),
    "deeper": (from_a_deeper_model, "tensors of the adapter have no place"),
    "wider": (from_a_wider_model, "cannot be put on the recipe's base model"),
    "pickled": (pickled, "can run code when they are read"),
    "virtual tokens": (virtual_tokens, "puts virtual tokens before the prompt"),
    "torn": (torn, "cannot be put on the recipe's base model"),
    "torn configuration": (torn_configuration, "adapter_config.json: damaged"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_an_adapter_that_does_not_belong_is_refused(
    name: str, judge: Callable[..., int], adapter: Path, tmp_path: Path, capfd: Any
) -> None:
    change, words = FAULTS[name]
    theirs = tmp_path / "theirs"
    shutil.copytree(adapter, theirs)
    change(theirs)
    assert judge(theirs) == 4
    said = capfd.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("verdict.json"))


def test_a_model_with_another_tokenizer_is_refused(
    judge: Callable[..., int], tiny_model_folder: Path, tmp_path: Path, capfd: Any
) -> None:
    theirs = tmp_path / "theirs"
    shutil.copytree(tiny_model_folder, theirs)
    tokenizer = json.loads((theirs / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    vocabulary["x"], vocabulary["y"] = vocabulary["y"], vocabulary["x"]
    (theirs / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert judge(theirs) == 4
    assert "its tokenizer is not that of the recipe's base model" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("target", "code", "words"),
    [
        ("/no/such/folder", 2, "no such folder"),
        ("nothing-here", 2, "no such folder, and no name of a Hub repository"),
        ("org/adapter", 4, "TARGET: 'org/adapter' is no local folder, is not in the Hub's cache"),
    ],
)
def test_a_target_that_is_not_there(
    target: str, code: int, words: str, judge: Callable[..., int], capsys: Any
) -> None:
    assert judge(Path(target)) == code
    assert words in capsys.readouterr().err


def test_other_folders_are_told_apart(
    judged: RunFolder, judge: Callable[..., int], tmp_path: Path, capsys: Any
) -> None:
    assert judge(judged.path) == 2
    assert f"Its adapter is {judged.adapter}" in capsys.readouterr().err
    assert judge(tmp_path) == 2
    assert "neither an adapter" in capsys.readouterr().err
