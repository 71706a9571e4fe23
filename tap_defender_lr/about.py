"""What `--about` prints for a person.

The SDK's own text leaves out the defaults of the settings and what they are for.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from singer_sdk.about import AboutFormatter
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from singer_sdk.about import AboutInfo

FORMAT = "text"


class TextFormatter(AboutFormatter, format_name=FORMAT):
    """Takes the place of the SDK's formatter of this name."""

    @override
    def format_about(self, about_info: AboutInfo) -> str:
        required = about_info.settings.get("required", ())
        pythons = ", ".join(about_info.supported_python_versions or ())
        lines = [
            f"{about_info.name} {about_info.version}",
            *_wrapped(about_info.description or ""),
            "",
            f"Python: {pythons}. Meltano SDK: {about_info.sdk_version}.",
            *_wrapped(f"Capabilities: {', '.join(capability.value for capability in about_info.capabilities)}."),
            "",
            *_wrapped(
                "Settings come from --config FILE, or with --config ENV from the environment, such as "
                f"{about_info.env_var_prefix}TENANT_ID:"
            ),
        ]
        for name, schema in about_info.settings.get("properties", {}).items():
            facts = [type_name(schema)]
            facts += ["required"] * (name in required) + ["secret"] * bool(schema.get("secret"))
            facts += [f"default {schema['default']}"] if "default" in schema else []
            lines += ["", f"  {name} ({', '.join(facts)})", *_wrapped(schema.get("description", ""), indent="      ")]
        return "\n".join(lines)


def type_name(schema: Mapping[str, Any]) -> str:
    """A JSON schema's type as a reader calls it, such as `array of strings`."""
    kinds: Sequence[str] = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    kind = " or ".join(kind for kind in kinds if kind != "null")
    if kind == "array":
        return f"array of {type_name(schema['items'])}s"
    return str(schema.get("format", kind))


def _wrapped(text: str, indent: str = "") -> list[str]:
    return textwrap.wrap(
        text, 100, initial_indent=indent, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    )
