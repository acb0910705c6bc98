"""The lab's engine against vLLM on the same model in this machine's dtype: the same answers, but for ties."""

from __future__ import annotations

from pathlib import Path

import torch

from labkit import models, serving
from labkit.serving import engine

TIE = 0.125  # the step of bfloat16 between 16 and 32, where these logits lie
NEW_TOKENS = 24

# Nineteen texts that the model goes on with firmly (in fp32 its best token leads by 0.3 or more at every step) and one
# that comes to a near tie. On open questions two correct engines part far more often: this model's two best tokens are
# then often within bfloat16's noise, and on the chat prompts of serving.QUESTIONS a third of the answers part.
PROMPTS = (
    "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,",
    "20, 19, 18, 17, 16, 15, 14, 13,",
    "2, 4, 6, 8, 10, 12, 14, 16, 18, 20,",
    "10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110,",
    "2000, 2001, 2002, 2003, 2004, 2005, 2006,",
    "1000, 2000, 3000, 4000, 5000, 6000,",
    "5, 10, 15, 20, 25, 30, 35, 40, 45, 50,",
    "a, b, c, d, e, f, g, h, i, j,",
    "<p>one</p>\n<p>one</p>\n<p>one</p>\n<p>one</p>\n",
    "A, B, C, A, B, C, A, B, C, A, B, C,",
    "1 2 3 1 2 3 1 2 3 1 2 3 1 2 3",
    "0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7,",
    "100, 99, 98, 97, 96, 95, 94, 93, 92,",
    "0 1 0 1 0 1 0 1 0 1 0 1 0",
    "SELECT * FROM a;\nSELECT * FROM a;\nSELECT * FROM a;\nSELECT",
    "January, February, March, April, May, June, July, August, September, October, November, December, January,",
    "3, 6, 9, 12, 15, 18, 21, 24, 27, 30,",
    "ping\npong\nping\npong\nping\npong\nping\n",
    "x = 1\ny = 2\nx = 1\ny = 2\nx = 1\ny = 2\nx = 1\n",
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday, Monday, Tuesday, Wednesday,",
)


def test_greedy_answers_equal_vllms_but_for_ties(vllm_server: serving.VLLMServer, smollm2: Path) -> None:
    tokenizer = models.load_tokenizer(smollm2)
    requests = [serving.Request(prompt=tuple(tokenizer.encode(text)), max_tokens=NEW_TOKENS) for text in PROMPTS]
    theirs = serving.run_load(vllm_server.endpoint, requests, concurrency=8)
    assert not theirs.errors
    runner = engine.ModelRunner(models.load_transformer(smollm2), num_blocks=256)
    ours = engine.run_engine(runner, requests, max_num_seqs=8)
    exact = models.load_transformer(smollm2, dtype=torch.float32)
    parted: list[str] = []
    for text, request, answer, served in zip(PROMPTS, requests, ours.answers, theirs.served, strict=True):
        pairs = zip(answer.tokens, served.token_ids, strict=True)
        place = next((place for place, (a, b) in enumerate(pairs) if a != b), None)
        if place is not None:
            with torch.no_grad():
                logits = exact(torch.tensor([request.prompt + answer.tokens[:place]]))[0, -1]
            first, second = logits.topk(2).values.tolist()
            parted.append(f"{text[-20:]!r} parts at token {place}, the two best {first - second:.3f} apart")
            assert first - second <= TIE, parted[-1]
    assert len(parted) <= 0.1 * len(requests), parted
