"""Ask a running gateway twice through the official SDK; the second answer costs nothing."""

import os

from openai import OpenAI

with OpenAI(base_url=os.environ.get("OPENAI_BASE_URL", "http://127.0.0.1:4141/v1"), api_key="any") as client:
    for _ in range(2):
        answer = client.chat.completions.with_raw_response.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": "Why is the sky blue?"}],
        )
        print(answer.parse().choices[0].message.content)
        print("  cache:", answer.headers["cache-status"], "| cost in USD:", answer.headers["x-penstock-cost-usd"])
