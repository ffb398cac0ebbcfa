"""What type checkers see of patches and serializers. Never run; see `public_api`."""

# pyright: reportUnnecessaryTypeIgnoreComment=true, reportUnusedCoroutine=false

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from dbos import DBOS, DBOSClient, DBOSConfig, JSONSerializer, Serializer


@DBOS.workflow()
def patched() -> int:
    if DBOS.patch("p"):
        return 1
    assert_type(DBOS.deprecate_patch("p"), bool)
    return "1" if DBOS.patch("q") else 2  # type: ignore[return-value]


@DBOS.workflow()
async def patched_async() -> bool:
    assert_type(DBOS.patch("p"), bool)
    assert_type(await DBOS.patch_async("p"), bool)
    return await DBOS.deprecate_patch_async("p")


def misuse() -> None:
    DBOS.patch()  # type: ignore[call-arg]
    DBOS.patch(1)  # type: ignore[arg-type]
    DBOS.deprecate_patch(None)  # type: ignore[arg-type]


class OfTheGuide(Serializer):
    def serialize(self, data: Any) -> str:
        return ""

    def deserialize(cls, serialized_data: str) -> Any:  # pyright: ignore[reportSelfClsParameterName]
        return None


class Unfinished(Serializer):
    def serialize(self, data: Any) -> str:
        return ""


def configuring() -> None:
    own = OfTheGuide()
    config: DBOSConfig = {
        "name": "app",
        "enable_patching": True,
        "application_version": "1.0.0",
        "serializer": JSONSerializer(also_reads=[own]),
    }
    DBOS(config=config)
    DBOSClient(system_database_url="sqlite:///file", serializer=own)
    assert_type(JSONSerializer().serialize({"a": 1}), str)
    assert_type(JSONSerializer().deserialize("1"), Any)
    Unfinished()  # type: ignore[abstract]
    JSONSerializer(own)  # type: ignore[call-arg, arg-type]
    DBOS(config={"name": "app", "serializer": OfTheGuide})  # type: ignore[typeddict-item]
    DBOS(config={"name": "app", "enable_patching": "yes"})  # type: ignore[typeddict-item]
    DBOS(config={"name": "app", "patching": True})  # type: ignore[typeddict-unknown-key]
