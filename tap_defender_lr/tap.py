"""The Singer tap: settings in, streams out."""

from __future__ import annotations

import itertools
import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import click
from singer_sdk import Tap
from singer_sdk.exceptions import ConfigValidationError
from singer_sdk.helpers.capabilities import CapabilitiesEnum, PluginCapabilities, TapCapabilities
from singer_sdk.plugin_base import JSONSchemaValidator, _ConfigInput
from singer_sdk.singerlib.encoding.simple import StateMessage
from singer_sdk.tap_base import CliTestOptionValue
from typing_extensions import override

from tap_defender_lr import about as about_text
from tap_defender_lr import doctor, redaction, sampling, settings, stdout, transport, validation
from tap_defender_lr.errors import InterruptedRunError, TapError, TimeIsUpError
from tap_defender_lr.quota import HOUR, MINUTE
from tap_defender_lr.run import Run
from tap_defender_lr.script_streams import ScriptStream
from tap_defender_lr.streams.live_response_results import LiveResponseResultsStream
from tap_defender_lr.streams.machine_actions import MachineActionsStream
from tap_defender_lr.streams.planned import PlannedStream
from tap_defender_lr.streams.script_outputs import (
    Companions,
    ScriptOutputErrorsStream,
    ScriptOutputSnapshotsStream,
    ScriptOutputStream,
)
from tap_defender_lr.text import counted, in_bytes

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType
    from typing import TextIO

    from tap_defender_lr.streams.written import WrittenStream


class TapDefenderLr(Tap):
    """Singer tap for results of Microsoft Defender for Endpoint Live Response."""

    name = "tap-defender-lr"
    config_jsonschema = settings.JSON_SCHEMA
    message_writer_class = stdout.WholeLineWriter
    message_writer: stdout.WholeLineWriter
    infers_columns = True
    """Whether script streams without a schema cost calls."""
    capabilities: ClassVar[list[CapabilitiesEnum]] = [
        TapCapabilities.CATALOG,
        TapCapabilities.STATE,
        TapCapabilities.DISCOVER,
        PluginCapabilities.ABOUT,
        PluginCapabilities.STREAM_MAPS,
        PluginCapabilities.FLATTENING,
        PluginCapabilities.STRUCTURED_LOGGING,
    ]

    @override
    def __init__(self, *, parse_env_config: bool = False, **kwargs: Any) -> None:
        redaction.install()
        transport.trust_the_same_everywhere()
        if parse_env_config:
            self.append_builtin_config(self.config_jsonschema)
            found = list(validation.environment_problems(os.environ, self.config_jsonschema, self._env_var_prefix))
            if found:
                raise ConfigValidationError("The settings are not valid", errors=found, schema=self.config_jsonschema)
        super().__init__(parse_env_config=parse_env_config, **kwargs)

    @override
    def discover_streams(self) -> list[WrittenStream]:
        def run() -> Run:
            return self.run

        streams: list[WrittenStream] = [LiveResponseResultsStream(self, run), MachineActionsStream(self, run)]
        entries = self._script_streams()
        if entries:
            companions = Companions(ScriptOutputErrorsStream(self), ScriptOutputSnapshotsStream(self))
            columns = self._columns(entries)
            streams += [companions.errors, companions.snapshots]
            streams += [ScriptOutputStream(self, run, entry, companions, columns[entry.name]) for entry in entries]
        return streams

    def _script_streams(self) -> list[ScriptStream]:
        """The entries of `script_streams`. Discovery does not check the settings as a run does."""
        found = list(validation.script_stream_problems(self._config, self.config_jsonschema))
        if found:
            raise TapError(" ".join(found))
        return [ScriptStream.from_entry(entry) for entry in self.config.get("script_streams") or ()]

    def _columns(self, entries: Sequence[ScriptStream]) -> dict[str, dict[str, Any]]:
        """The printed columns of each script stream: from the catalog, from its entry, or inferred."""
        columns = {entry.name: dict(entry.properties or {}) for entry in entries}
        if self.input_catalog is not None:
            for entry in entries:
                if self.input_catalog.get_stream(entry.name) is None:
                    self.logger.warning(
                        "The catalog does not hold the script stream %s, so it is not read: run discovery again.",
                        entry.name,
                    )
            return columns
        unknown = [entry for entry in entries if entry.properties is None]
        if unknown and self.infers_columns:
            try:
                self._validate_config()
                columns |= sampling.infer_columns(self.run, unknown)
            except ConfigValidationError as error:
                raise TapError(" ".join(error.errors)) from None
            except InterruptedRunError:
                raise SystemExit(stdout.exit_code(self.run.lifetime.signal_number or 0)) from None
            except TimeIsUpError:
                names = ", ".join(entry.name for entry in unknown)
                raise TapError(
                    f"`max_run_minutes` ends before the service may be called again, so the columns of {names} cannot "
                    "be inferred now. Write a `schema` into `script_streams`, or run with a catalog."
                ) from None
        return columns

    @cached_property
    def run(self) -> Run:
        """What the streams share. Needs valid settings; makes no call."""
        return Run(settings.Settings.from_config(self.config), self.selected_streams)

    def selected_streams(self) -> list[PlannedStream]:
        return [stream for stream in self.streams.values() if isinstance(stream, PlannedStream) and stream.selected]

    @override
    def _validate_config(self, *, raise_errors: bool = True) -> list[str]:
        """As the SDK does it, but with sentences that never hold a value: it may be a secret."""
        self.append_builtin_config(self.config_jsonschema)
        self._config = validation.with_environment(self._config, os.environ)
        for name in ("client_secret", "certificate_password"):
            redaction.remember(str(self._config.get(name) or "").strip())
        validator = JSONSchemaValidator(self.config_jsonschema)  # it also fills in the defaults
        found = list(validator.iter_errors(self._config))
        errors = [validation.type_problem(error) for error in found if error.absolute_path]
        if raise_errors:
            errors = errors or list(validation.problems(self._config))
            if errors:
                raise ConfigValidationError("The settings are not valid", errors=errors, schema=self.config_jsonschema)
            for warning in validation.warnings(self._config, self.config_jsonschema["properties"]):
                self.logger.warning("%s", warning)
        return errors

    @override
    def _handle_termination(self, signum: int, frame: FrameType | None) -> None:
        """The SDK's handler writes STATE into the middle of a half-written line and exits with 0."""
        if "run" not in vars(self):  # no message has been written
            raise SystemExit(stdout.exit_code(signum))
        stdout.stop_on_signal(self.run.lifetime, signum)

    @classmethod
    @override
    def cb_config(cls, ctx: click.Context, param: click.Option, value: tuple[str, ...]) -> _ConfigInput:
        for path in value:
            if path != "ENV":
                _read_json(path, "--config")
        return super().cb_config(ctx, param, value)

    @classmethod
    @override
    def cb_test(cls, ctx: click.Context, param: click.Option, value: str) -> None:
        cls.infers_columns = value != CliTestOptionValue.All.value  # a test of the connection costs three calls at most
        super().cb_test(ctx, param, value)

    @classmethod
    @override
    def get_singer_command(cls) -> click.Command:
        command = super().get_singer_command()
        text = "Walk the path that a run takes and say what does not work; `--format json` for programs."
        command.params.append(click.Option(["--doctor"], is_flag=True, help=text))
        return command

    @classmethod
    def examine(cls, config: _ConfigInput, *, as_json: bool) -> bool:
        """Run the doctor, and tell whether a run would work."""
        try:
            tap = cls(config=config.config, parse_env_config=config.parse_env, setup_mapper=False)
        except ConfigValidationError as error:
            return doctor.render(doctor.settings_checks(error.errors, (), ""), as_json=as_json, write=click.echo)
        warnings = validation.warnings(tap.config, tap.config_jsonschema["properties"])
        about_settings = doctor.settings_checks((), warnings, doctor.summary(tap.run.settings))
        results = LiveResponseResultsStream(tap, lambda: tap.run)
        checks = itertools.chain(about_settings, doctor.examine(tap.run, results))
        try:
            return doctor.render(checks, as_json=as_json, write=click.echo)
        except InterruptedRunError:
            raise SystemExit(stdout.exit_code(tap.run.lifetime.signal_number or 0)) from None

    @classmethod
    @override
    def print_about(cls, output_format: str | None = None) -> None:
        super().print_about(output_format or about_text.FORMAT)

    @classmethod
    @override
    def invoke(  # type: ignore[override]  # the SDK's own signature differs from its base class likewise
        cls,
        *,
        about: bool = False,
        about_format: str | None = None,
        config: _ConfigInput | None = None,
        state: TextIO | None = None,
        catalog: TextIO | None = None,
        doctor: bool = False,
    ) -> None:
        """Like the SDK's, with a summary at the end and one sentence for a file that is no JSON."""
        super(Tap, cls).invoke(about=about, about_format=about_format)
        config = config or _ConfigInput()
        if doctor:
            raise SystemExit(0 if cls.examine(config, as_json=about_format == "json") else 1)
        cls.print_version(print_fn=cls.logger.info)
        tap = cls(
            config=config.config,
            state=None if state is None else _parse_json(state.buffer.read(), f"--state: the file {state.name}"),
            catalog=None
            if catalog is None
            else _parse_json(catalog.buffer.read(), f"--catalog: the file {catalog.name}"),
            parse_env_config=config.parse_env,
            validate_config=True,
        )
        run = tap.run
        try:
            tap.sync_all()
            run.raise_complaints()
        except BaseException:
            tap.finish()
            raise
        tap.finish()
        if run.lifetime.signal_number is not None:
            raise SystemExit(stdout.exit_code(run.lifetime.signal_number))

    def finish(self) -> None:
        """End the output with STATE, since some loaders only keep one that was the last line, and sum up the run."""
        self.run.close()
        if self.state and not (self.message_writer.ended_with_state or self.message_writer.reader_is_gone):
            self.write_message(StateMessage(value=self.state))
        self._log_summary()

    def _log_summary(self) -> None:
        """What happened, in a few lines for a person."""
        waiting = 0
        left: set[str] = set()
        failing: set[str] = set()
        for stream in self.selected_streams():
            if stream.plan is not None:
                self.logger.info("Done with %s: %s.", stream.name, stream.describe_counts())
                waiting = max(waiting, stream.plan.waiting)
                left |= stream.plan.left
                failing |= stream.plan.failing
        if left:
            self.logger.info("%s left for the next run.", counted(len(left), "result", "results"))
        if failing:
            what = counted(len(failing), "failed result is", "failed results are")
            self.logger.info("%s tried again first thing next run.", what)
        self._log_files()
        self._log_scripts_without_a_stream()
        if waiting:
            what = counted(waiting, "action still waits for its device", "actions still wait for their device")
            self.logger.info("%s; later runs look again.", what)
        if "client" in vars(self.run):
            budget = self.run.ledger.left()
            spent = counted(self.run.client.calls, "call", "calls")
            left_now = f"; {budget[MINUTE]:,} left this minute, {budget[HOUR]:,} this hour" if budget else ""
            self.logger.info("%s spent%s.", spent, left_now)

    def _log_files(self) -> None:
        collector = self.run.collector
        if collector is not None and collector.stored:
            what = counted(collector.stored, "file", "files")
            self.logger.info("%s stored, %s in all.", what, in_bytes(collector.stored_bytes))

    def _log_scripts_without_a_stream(self) -> None:
        entries = [stream.entry for stream in self.streams.values() if isinstance(stream, ScriptOutputStream)]
        results = self.streams[LiveResponseResultsStream.name]
        if not entries or not isinstance(results, LiveResponseResultsStream):
            return
        others = {
            name: count
            for name, count in results.scripts.most_common()
            if not any(entry.matches(name) for entry in entries)
        }
        if others:
            listed = itertools.islice(others.items(), 10)
            named = ", ".join(f"{' '.join(name.split())[:100]} ({count:,})" for name, count in listed)
            more = ", …" if len(others) > 10 else ""
            what = counted(len(others), "script has", "scripts have")
            self.logger.info("%s no stream in `script_streams`: %s%s.", what, named, more)


def _read_json(path: str, option: str) -> dict[str, Any]:
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TapError(f"{option}: the file {path} cannot be read ({error.strerror}).") from None
    return _parse_json(data, f"{option}: the file {path}")


def _parse_json(data: bytes, what: str) -> dict[str, Any]:
    try:
        document = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise TapError(f"{what} is not UTF-8 text.") from None
    except ValueError as error:
        where = f" (line {error.lineno}, column {error.colno})" if isinstance(error, json.JSONDecodeError) else ""
        raise TapError(f"{what} is not valid JSON{where}.") from None
    if not isinstance(document, dict):
        raise TapError(f"{what} must hold a JSON object.")
    return document
