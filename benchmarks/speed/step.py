"""One training step of on-policy self-distillation: ours and TRL's `SDFTTrainer`.

Made equal: weights, prompts token by token, adapter, batch, length of completions,
divergence (student to teacher over the whole vocabulary), a teacher that is the model
without its adapter, AdamW. TRL's defaults beside it change what the defaults change.
"""

from __future__ import annotations

from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any

from peft import LoraConfig
from transformers import TrainerCallback

from benchmarks.speed.job import Facts, Job, Turns
from benchmarks.speed.rollouts import load_tokenizer, model_settings
from neuron_opsd.config import Config, DistillConfig, PromptsConfig, RolloutsConfig
from neuron_opsd.methods.distillation import NeuronOPSD
from neuron_opsd.models.load import learner_of, load_model
from neuron_opsd.models.tokenizer.encoding import Tokens
from neuron_opsd.records import Message, Prompt, Question, TrainingExample
from neuron_opsd.stages.training import train

ENOUGH = 100_000
"""Steps that nobody waits for."""

RANK, ALPHA, RATE = 16, 32, 1e-4


def ours(job: Job, turns: Turns) -> None:
    """Serve `train`, which yields after every step."""
    work = job.work
    settings = Config(
        # The prompts are texts already; this form knows no end but the end token.
        prompts=PromptsConfig(form="chat"),
        rollouts=RolloutsConfig(max_new_tokens=work.new_tokens),
        distill=DistillConfig(
            steps=ENOUGH,
            batch_size=len(work.prompts),
            teacher="frozen",
            lora_rank=RANK,
            lora_alpha=ALPHA,
            learning_rate=RATE,
            warmup_steps=0,
        ),
    )
    learner = learner_of(load_model(model_settings(job)), settings.distill, seed=0)
    # Without an end every completion has the same length, as for the peer.
    learner.tokens = Tokens(learner.tokens.tokenizer, frozenset())
    examples = [
        TrainingExample(
            Question(f"question-{i}", (Message("user", text),)),
            Prompt(text),
            Prompt(f"{context}\n\n{text}"),
        )
        for i, (text, context) in enumerate(zip(work.texts, work.contexts, strict=True))
    ]
    check_prompts(job, [list(learner.encode(e.teacher_prompt)) for e in examples])
    steps = train(learner, examples, NeuronOPSD(settings), settings)

    def step() -> Facts:
        metrics = next(steps)
        return {"amount": metrics.num_tokens / work.new_tokens / len(work.prompts)}

    turns.repeat(step)


def check_prompts(job: Job, teacher_prompts: list[list[int]]) -> None:
    """Refuse to compare systems that do not read the same tokens.

    Raises:
        ValueError: If they do not.
    """
    if teacher_prompts != job.work.teacher_prompts:
        raise ValueError("the teacher's prompts differ from those of the job")


def trl_equal(job: Job, turns: Turns) -> None:
    """Serve TRL with everything made equal."""
    serve_trl(
        job,
        turns,
        {
            "bf16": job.options["precision"] == "bfloat16",
            "distillation_mode": "full_logits",
            "distillation_alpha": 1.0,
            "distillation_is_clip": None,
            "gradient_checkpointing": False,
        },
    )


def trl_default(job: Job, turns: Turns) -> None:
    """Serve TRL as it comes, on the same batch."""
    serve_trl(job, turns, {})


def serve_trl(job: Job, turns: Turns, chosen: dict[str, Any]) -> None:
    """Serve a trainer that stops after every step to wait for its turn."""
    sdft = import_module("trl.experimental.sdft")
    tokenizer = load_tokenizer(job)
    with TemporaryDirectory() as folder:
        trainer = sdft.SDFTTrainer(
            model=job.model,
            args=sdft.SDFTConfig(output_dir=folder, **shared_settings(job), **chosen),
            train_dataset=rows(job, tokenizer),
            processing_class=tokenizer,
            peft_config=LoraConfig(
                r=RANK,
                lora_alpha=ALPHA,
                target_modules="all-linear",
                lora_dropout=0.0,
                task_type="CAUSAL_LM",
            ),
            callbacks=[StepByStep(turns)],
        )
        turns.ready()
        if turns.wait():
            trainer.train()


def shared_settings(job: Job) -> dict[str, Any]:
    """Return what both kinds of TRL run need to do this job and no other."""
    part = job.options["part"]
    return {
        "use_cpu": job.device == "cpu",
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "dataloader_pin_memory": False,
        "shuffle_dataset": False,
        "seed": 0,
        "max_steps": ENOUGH,
        "model_init_kwargs": {"dtype": "float32", "attn_implementation": "sdpa"},
        "per_device_train_batch_size": part,
        "gradient_accumulation_steps": len(job.work.prompts) // part,
        "num_generations": 1,
        "max_prompt_length": None,
        "max_completion_length": job.work.new_tokens,
        "generation_kwargs": {"min_new_tokens": job.work.new_tokens},
        "teacher_prompt_template": "{privileged_context}\n\n{prompt}",
        "learning_rate": RATE,
        "lr_scheduler_type": "constant",
    }


def rows(job: Job, tokenizer: Any) -> Any:
    """Return the batch, many times over, as TRL wants it."""
    texts, contexts = job.work.texts, job.work.contexts
    pairs = zip(contexts, texts, strict=True)
    teachers = [f"{context}\n\n{text}" for context, text in pairs]
    check_prompts(job, tokenizer(text=teachers)["input_ids"])
    return import_module("datasets").Dataset.from_dict(
        {"prompt": texts * 64, "privileged_context": contexts * 64}
    )


class StepByStep(TrainerCallback):
    """Answers after every step of a trainer and waits to be asked for the next."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> Any:
        """Stop the clock, wait, start it again."""
        del args, state, kwargs
        self.turns.done({"amount": 1})
        control.should_training_stop = not self.turns.wait()
        return control
