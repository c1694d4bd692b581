"""What the teacher was shown, as rows for TRL's self-distillation trainer.

TRL builds the teacher's prompt from `prompt` and `privileged_context` by a template. If
the teacher's text is the student's with a prefix, a template with it gives the same
prompt; so does TRL's own if the run showed given text in a conversation. Otherwise
demonstrations go into the last user turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from neuron_opsd.config import Config
from neuron_opsd.data.questions import json_lines
from neuron_opsd.errors import ConfigError, DataError
from neuron_opsd.exporting.export import Made, Request
from neuron_opsd.exporting.finished import FinishedRun, first_token
from neuron_opsd.exporting.merged import save, weights_of
from neuron_opsd.method.contexts import deal
from neuron_opsd.method.contexts.search import Known
from neuron_opsd.models.load import load_tokenizer
from neuron_opsd.models.roles import Tokenizer
from neuron_opsd.progress import Progress
from neuron_opsd.prompts import asked_lines
from neuron_opsd.records import (
    Demonstration,
    Question,
    TeacherContext,
    TrainingExample,
)
from neuron_opsd.runs.inputs import POOL, questions_hash, read_pool
from neuron_opsd.stages.teaching import (
    DemonstrationPool,
    build_examples,
    fitted_prompts,
)
from neuron_opsd.storage.codecs import CONTEXTS

ROWS: Final = "train.jsonl"
SETTINGS: Final = "sdft.json"
SCRIPT: Final = "train.py"

BEFORE: Final = "{privileged_context}{prompt}"
"""Teacher's template if rows are texts."""

IN_TURN: Final = "{privileged_context}\n\n{prompt}"
"""The same for conversations; it makes their last turn."""

AFTER: Final = "{prompt}\n\n{privileged_context}"
"""TRL's own, used by runs that show given text."""

ALPHAS: Final = {"forward-kl": 0.0, "reverse-kl": 1.0}
"""TRL's numbers for divergences; Jensen-Shannon's are in between."""

TEACHERS: Final = {"ema": "ema", "frozen": "base", "live": "live", "periodic": "ema"}

SCHEDULES: Final = {"constant": "constant_with_warmup"}

TRAINS: Final = '''\
"""Trains the base on train.jsonl with TRL's SDFT, as sdft.json says (trl 1.16)."""

import json
import sys
from pathlib import Path

import torch
from datasets import load_dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl.experimental.sdft import SDFTConfig, SDFTTrainer

HERE = Path(__file__).parent
settings = json.loads((HERE / "sdft.json").read_text(encoding="utf-8"))
base = sys.argv[1] if len(sys.argv) > 1 else settings["base"]
tokenizer = AutoTokenizer.from_pretrained(base)
on_gpu = torch.cuda.is_available()
trainer = SDFTTrainer(
    model=AutoModelForCausalLM.from_pretrained(base),
    args=SDFTConfig(
        output_dir=str(HERE / "trained"),
        use_cpu=not on_gpu,
        bf16=on_gpu and torch.cuda.is_bf16_supported(),
        **settings["trainer"],
    ),
    train_dataset=load_dataset(
        "json", data_files=str(HERE / "train.jsonl"), split="train"
    ),
    processing_class=tokenizer,
    peft_config=LoraConfig(**settings["adapter"]) if settings["adapter"] else None,
)
trainer.train()
trainer.save_model()
'''


def write(run: FinishedRun, request: Request, folder: Path, progress: Progress) -> Made:
    """Write rows, settings and a script that trains with them."""
    contexts = shown_contexts(run)
    questions = pool_of(run, request.pool)
    tokenizer = load_tokenizer(run.base)
    library = DemonstrationPool(questions, {}, Known(()), {})
    with progress.stage("teacher's prompts", len(contexts), "questions") as done:
        examples = build_examples(
            tokenizer, contexts, library, run.config, on_done=done
        )
    given = run.config.shows_given
    as_texts = [] if given else [*text_rows(tokenizer, examples)]
    exact = len(as_texts) == sum(len(one.teacher_prompts) for one in examples)
    rows = as_texts if exact else [*turn_rows(run, tokenizer, examples, library)]
    template = BEFORE if exact else AFTER if given else IN_TURN
    exact |= given and all(example.student_prompt.messages for example in examples)
    (folder / ROWS).write_text(json_lines(rows), encoding="utf-8")
    if not exact:
        progress.warn(
            "TRL puts what its teacher is shown into the last user turn, but this run "
            "showed it elsewhere; teacher_prompt in each row is what it showed"
        )
    if any(example.choices for example in examples):
        progress.warn(
            "the run drew its training rollouts among each question's choices; TRL "
            "writes freely, so it trains on other answers"
        )
    settings = {
        "base": weights_of(run, request).source.place,
        "trainer": trainer_settings(run, template),
        "adapter": adapter_settings(run),
    }
    save(settings, folder / SETTINGS)
    (folder / SCRIPT).write_text(TRAINS, encoding="utf-8")
    return Made({"rows": len(rows), "teacher_prompts_are_exact": exact})


def shown_contexts(run: FinishedRun) -> Sequence[TeacherContext]:
    """Return the demonstrations of every question trained on.

    A run whose teacher was shown none is refused.
    """
    shows = run.report.reads_contexts and run.config.contexts.num_demonstrations
    path = run.folder / CONTEXTS.file_name
    if not shows or not path.is_file():
        raise ConfigError(
            f"{run.folder} is a run of {run.config.method} whose teacher was shown no "
            "demonstrations, so there is no privileged context to write; export a run "
            "of a method that shows some (`neuron-opsd methods`)"
        )
    return CONTEXTS.load(path)


def pool_of(run: FinishedRun, source: str) -> dict[str, Question]:
    """Return the pool's questions by id, without answers.

    Another file is refused.
    """
    if not source:
        raise ConfigError(
            "a run keeps no questions, so --to trl needs the file that it had as its "
            "pool; give it with --pool"
        )
    found = read_pool(source, run.config).questions
    known = run.manifest.inputs.get(POOL)
    if known is not None and questions_hash(found) != known:
        raise DataError(
            f"{source} does not ask what the run was asked (the SHA-256 of its "
            f"questions is not {known[:12]}...); give the file that the run had as its "
            "--pool"
        )
    return {question.id: question for question in found}


def text_rows(
    tokenizer: Tokenizer, examples: Sequence[TrainingExample]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each teacher prompt that is the student's with a prefix."""
    first = first_token(tokenizer)
    for example in examples:
        student, *teachers = (
            tokenizer.prompt_text(prompt).removeprefix(first)
            for prompt in (example.student_prompt, *example.teacher_prompts)
        )
        for teacher in teachers:
            if teacher.endswith(student):
                yield row_of(example, student, teacher.removesuffix(student), teacher)


def turn_rows(
    run: FinishedRun,
    tokenizer: Tokenizer,
    examples: Sequence[TrainingExample],
    library: DemonstrationPool,
) -> Iterator[dict[str, Any]]:
    """Yield the examples as conversations, demonstrations as labelled lines.

    There is a row for each context of a question.
    """
    config = run.config
    contexts = {one.question_id: one for one in shown_contexts(run)}
    for example in examples:
        context = contexts[example.question_id]
        dealt = deal(context.demonstrations, config.contexts.num_contexts)
        fitted = fitted_prompts(tokenizer, example.question, context, library, config)
        turns = [asdict(turn) for turn in example.student_prompt.messages]
        student = turns or tokenizer.prompt_text(example.student_prompt)
        for demonstrations, (prompt, dropped) in zip(dealt, fitted, strict=True):
            lines = [line_of(d, library, config) for d in demonstrations[dropped:]]
            teacher = tokenizer.prompt_text(prompt)
            yield row_of(example, student, "\n\n".join(lines), teacher)


def line_of(shown: Demonstration, library: DemonstrationPool, config: Config) -> str:
    """Return a demonstration as a labelled line, or what was given as it is."""
    if config.shows_given:
        return shown.answer
    question = library.questions[shown.question_id]
    answer = " ".join(shown.answer.split())
    return f"{asked_lines(question, config.prompts)} {answer}"


def row_of(
    example: TrainingExample, prompt: Any, context: str, teacher: str
) -> dict[str, Any]:
    """Return one row; TRL reads the first two columns."""
    return {
        "prompt": prompt,
        "privileged_context": context,
        "teacher_prompt": teacher,
        "id": example.question_id,
    }


def trainer_settings(run: FinishedRun, template: str) -> dict[str, Any]:
    """Return the run's settings in TRL's terms, where it has any.

    Prompts are not cut: by default TRL keeps the last 512 tokens, which come after what
    the teacher is shown.
    """
    config = run.config
    tuning = config.distill
    thinking = config.prompts.student_thinking
    return {
        "teacher_prompt_template": template,
        "max_prompt_length": None,
        "max_completion_length": config.training_tokens,
        "max_steps": tuning.steps,
        "per_device_train_batch_size": tuning.batch_size * tuning.num_samples,
        "num_generations": tuning.num_samples,
        "learning_rate": tuning.learning_rate,
        "warmup_steps": tuning.warmup_steps,
        "lr_scheduler_type": SCHEDULES.get(tuning.schedule, tuning.schedule),
        "weight_decay": tuning.weight_decay,
        "max_grad_norm": tuning.max_grad_norm,
        "temperature": tuning.temperature,
        "top_p": tuning.sampling_top_p,
        "top_k": tuning.sampling_top_k,
        "min_p": tuning.sampling_min_p,
        "distillation_mode": "topk_logits" if tuning.top_k else "full_logits",
        "distillation_topk": tuning.top_k or None,
        "distillation_add_tail": bool(tuning.top_k),
        "distillation_alpha": ALPHAS.get(tuning.divergence, tuning.beta),
        "teacher_model_kind": TEACHERS[tuning.teacher],
        "teacher_update_rate": 1.0 if tuning.teacher == "periodic" else tuning.ema_rate,
        "teacher_sync_steps": (
            tuning.teacher_period if tuning.teacher == "periodic" else 1
        ),
        "chat_template_kwargs": (
            None if thinking is None else {"enable_thinking": thinking}
        ),
        "seed": config.seed,
        "report_to": "none",
    }


def adapter_settings(run: FinishedRun) -> dict[str, Any] | None:
    """Return the adapter's settings in PEFT's terms, `None` without an adapter."""
    if run.is_whole_model:
        return None
    return {
        "r": run.config.distill.lora_rank,
        "lora_alpha": run.config.distill.lora_alpha,
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM",
    }
