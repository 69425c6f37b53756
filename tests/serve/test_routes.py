"""The routes, through the real `openai` client: what is drawn, edited and said is what the library makes."""

import asyncio
import base64
import io
import json

import httpx
import numpy as np
import openai
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from arm.generate import Guidance
from arm.pipeline import Arm
from arm.serve.jobs import UNDRAWN

PROMPT = "a red star left of a blue ring"
CHANGE = "make the star green"
QUESTION = "how many stars are there?"


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def source(micro: Arm) -> Image.Image:
    return micro.create(PROMPT, seed=7)[0]


def file_of(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = io.BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def link_of(picture: Image.Image) -> str:
    return "data:image/png;base64," + base64.b64encode(file_of(picture)).decode()


def picture_of(encoded: str | None) -> Image.Image:
    assert encoded
    return Image.open(io.BytesIO(base64.b64decode(encoded.split(",")[-1])))


def assert_same(one: Image.Image, other: Image.Image) -> None:
    """The same codes were painted: the pixels differ by rounding at most."""
    assert one.size == other.size
    difference = np.abs(np.asarray(one.convert("RGB"), int) - np.asarray(other, int))
    assert difference.max() <= 1


def test_models(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["micro"]


def test_drawings_are_those_of_the_library(client: openai.OpenAI, micro: Arm):
    reply = client.images.generate(
        model="micro", prompt=PROMPT, n=2, size="64x48", extra_body={"seed": 5}
    )
    assert reply.data and len(reply.data) == 2
    for item, expected in zip(
        reply.data, micro.create(PROMPT, size=(64, 48), num_images=2, seed=5), strict=True
    ):
        assert_same(picture_of(item.b64_json), expected)
    assert reply.size == "64x48" and reply.output_format == "png"
    assert reply.usage and reply.usage.output_tokens == 2 * 6 * 8
    assert reply.usage.input_tokens_details.image_tokens == 0


def test_extension_fields_may_be_nested(url: str, micro: Arm):
    body = {"prompt": PROMPT, "extra_body": {"seed": 5, "guidance_scale": 1.0}, "size": None}
    reply = httpx.post(f"{url}/v1/images/generations", json=body).json()
    expected = micro.create(PROMPT, seed=5, guidance=Guidance(1.0))[0]
    assert_same(picture_of(reply["data"][0]["b64_json"]), expected)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_formats(client: openai.OpenAI, kind):
    reply = client.images.generate(
        prompt=PROMPT, output_format=kind, output_compression=50, extra_body={"seed": 1}
    )
    assert reply.data
    picture = picture_of(reply.data[0].b64_json)
    assert picture.format == kind.upper() and picture.size == (56, 56)


def test_a_url_is_a_data_url(client: openai.OpenAI):
    reply = client.images.generate(prompt=PROMPT, response_format="url", extra_body={"seed": 1})
    assert reply.data and reply.data[0].url and reply.data[0].b64_json is None
    assert reply.data[0].url.startswith("data:image/png;base64,")
    assert picture_of(reply.data[0].url).size == (56, 56)


def test_a_picture_appears_while_it_is_drawn(client: openai.OpenAI, micro: Arm):
    stream = client.images.generate(
        prompt=PROMPT, stream=True, partial_images=2, extra_body={"seed": 5}
    )
    events = list(stream)
    assert [event.type for event in events] == [
        "image_generation.partial_image",
        "image_generation.partial_image",
        "image_generation.completed",
    ]
    assert [getattr(event, "partial_image_index", None) for event in events] == [0, 1, None]
    pixels = [np.asarray(picture_of(event.b64_json)) for event in events]
    assert_same(Image.fromarray(pixels[2]), micro.create(PROMPT, seed=5)[0])
    undrawn = [(p == UNDRAWN).all(-1).reshape(7, 8, 7, 8).all((1, 3)) for p in pixels]
    # 49 codes: the two pictures are painted after 16 and 32.
    assert [int(u.sum()) for u in undrawn] == [33, 17, 0]
    assert undrawn[0].reshape(-1)[16:].all() and undrawn[1].reshape(-1)[32:].all()


def test_edits_are_those_of_the_library(client: openai.OpenAI, micro: Arm, source: Image.Image):
    expected = micro.edit(source, CHANGE, seed=3)
    for image in (("a.png", file_of(source)), [("a.png", file_of(source))]):
        reply = client.images.edit(image=image, prompt=CHANGE, extra_body={"seed": 3})
        assert reply.data
        assert_same(picture_of(reply.data[0].b64_json), expected)
        assert reply.usage and reply.usage.input_tokens_details.image_tokens == 49


def test_edits_in_json(url: str, micro: Arm, source: Image.Image):
    body = {"prompt": CHANGE, "seed": 3, "images": [{"image_url": link_of(source)}]}
    reply = httpx.post(f"{url}/v1/images/edits", json=body).json()
    assert_same(picture_of(reply["data"][0]["b64_json"]), micro.edit(source, CHANGE, seed=3))


def test_a_streamed_edit(client: openai.OpenAI, micro: Arm, source: Image.Image):
    events = list(
        client.images.edit(
            image=file_of(source), prompt=CHANGE, stream=True, partial_images=1,
            extra_body={"seed": 3},
        )
    )  # fmt: skip
    assert [e.type for e in events] == ["image_edit.partial_image", "image_edit.completed"]
    assert_same(picture_of(events[1].b64_json), micro.edit(source, CHANGE, seed=3))


def asked(picture: Image.Image, text: str) -> list:
    parts = [{"type": "image_url", "image_url": {"url": link_of(picture)}}]
    return [{"role": "user", "content": [*parts, {"type": "text", "text": text}]}]


def test_answers_are_those_of_the_library(client: openai.OpenAI, micro: Arm, source: Image.Image):
    expected = micro.chat().say(QUESTION, source).text
    messages = [{"role": "system", "content": "You are helpful."}, *asked(source, QUESTION)]
    reply = client.chat.completions.create(model="micro", messages=messages)
    choice = reply.choices[0]
    assert choice.message.content == expected != ""
    assert choice.finish_reason == "stop" and reply.usage
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    cut = client.chat.completions.create(model="micro", messages=messages, max_tokens=1)
    assert cut.choices[0].finish_reason == "length"


def test_streamed_answers(client: openai.OpenAI, micro: Arm, source: Image.Image):
    text = "what do you see?"
    stream = client.chat.completions.create(
        model="micro", messages=asked(source, text), stream=True,
        stream_options={"include_usage": True},
    )  # fmt: skip
    chunks = list(stream)
    pieces = [c.choices[0].delta.content or "" for c in chunks if c.choices]
    assert "".join(pieces) == micro.chat().say(text, source).text
    assert len([piece for piece in pieces if piece]) > 1
    assert chunks[-1].usage and chunks[-2].choices[0].finish_reason == "stop"


def test_a_stream_ends_in_done(url: str, source: Image.Image):
    body = {"messages": asked(source, QUESTION), "stream": True}
    reply = httpx.post(f"{url}/v1/chat/completions", json=body)
    assert reply.headers["content-type"].startswith("text/event-stream")
    assert reply.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("modalities", [["image"], ["image", "text"]])
def test_pictures_in_chat_in_both_dialects(url: str, micro: Arm, modalities, stream):
    body = {
        "messages": [{"role": "user", "content": PROMPT}],
        "modalities": modalities,
        "seed": 4,
        "stream": stream,
    }
    reply = httpx.post(f"{url}/v1/chat/completions", json=body)
    if stream:
        lines = [line[6:] for line in reply.text.split("\n\n") if line.startswith("data: {")]
        deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
        message = {"content": ""}
        for delta in deltas:
            message |= {key: value for key, value in delta.items() if value}
    else:
        message = reply.json()["choices"][0]["message"]
    if modalities == ["image"]:
        (part,), expected = message["content"], micro.create(PROMPT, seed=4)[0]
    else:
        (part,), expected = message["images"], micro.chat(4).say(PROMPT).image
        assert message["content"] == ""
    assert part["type"] == "image_url" and expected is not None
    assert_same(picture_of(part["image_url"]["url"]), expected)


def test_a_conversation_goes_on_with_pictures(url: str, micro: Arm):
    chat = micro.chat(4)
    drawn = chat.say(PROMPT).image
    assert drawn is not None
    expected = chat.say(QUESTION).text
    messages = [
        {"role": "user", "content": PROMPT},
        {"role": "assistant", "content": "", "images": [{"type": "image_url", "image_url": {"url": link_of(drawn)}}]},
        {"role": "user", "content": QUESTION},
    ]  # fmt: skip
    reply = httpx.post(f"{url}/v1/chat/completions", json={"messages": messages}).json()
    assert reply["choices"][0]["message"]["content"] == expected


def test_64_clients_at_once_get_what_each_would_get_alone(
    url: str, micro: Arm, source: Image.Image
):
    async def ask(client: openai.AsyncOpenAI, i: int) -> str | None:
        if i % 4 == 3:
            reply = await client.chat.completions.create(
                model="micro", messages=asked(source, QUESTION)
            )
            return reply.choices[0].message.content
        if i % 4 == 2:
            reply = await client.images.edit(
                image=file_of(source), prompt=CHANGE, extra_body={"seed": i % 8}
            )
        else:
            reply = await client.images.generate(prompt=PROMPT, extra_body={"seed": i % 8})
        return reply.data[0].b64_json if reply.data else None

    async def everybody() -> list[str | None]:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client:
            return await asyncio.gather(*(ask(client, i) for i in range(64)))

    replies = asyncio.run(everybody())
    answer = micro.ask(source, QUESTION)
    drawn = {seed: micro.create(PROMPT, seed=seed)[0] for seed in (0, 1, 4, 5)}
    edited = {seed: micro.edit(source, CHANGE, seed=seed) for seed in (2, 6)}
    for i, reply in enumerate(replies):
        if i % 4 == 3:
            assert reply == answer
        else:
            assert_same(picture_of(reply), (edited if i % 4 == 2 else drawn)[i % 8])


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    fields=st.dictionaries(
        st.sampled_from(["prompt", "n", "size", "seed", "output_format", "stream", "mask", "else"]),
        TEXTS | st.sampled_from(["a red star", "1", "56x56", "png"]),
    ),
    names=st.lists(st.sampled_from(["image", "image[]", "other"]), max_size=3),
    content=st.binary(max_size=40),
)
def test_any_form_gets_a_reply_in_openais_form(url: str, fields, names, content):
    files = [(name, ("x.png", content, "image/png")) for name in names]
    reply = httpx.post(f"{url}/v1/images/edits", data=fields, files=files)
    # No example holds a picture that can be read.
    assert reply.status_code in (400, 422)
    assert reply.json()["error"]["message"] and reply.json()["error"]["type"]


def test_the_openapi_description_names_the_fields(url: str):
    paths = httpx.get(f"{url}/openapi.json").json()["paths"]
    content = paths["/v1/images/edits"]["post"]["requestBody"]["content"]
    assert "prompt" in content["application/json"]["schema"]["properties"]
    assert "image" in content["multipart/form-data"]["schema"]["properties"]
