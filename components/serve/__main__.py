"""`python -m components.serve`: a model behind HTTP; also `rollback`, `predict`, `route`, `key` and `sign`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from components.cxr.cli import ConfigOption, RootOption, SetOption, load_config, open_root, run_cli, terminate_cleanly
from components.cxr.config import load_mapping, load_yaml, section, with_overrides
from components.cxr.errors import UserError
from components.cxr.pacs import Pacs
from components.cxr.storage.pointers import read_pointer
from components.cxr.storage.storage import Root, open_storage
from components.serve.config import ServeConfig
from components.serve.deployment import Deployment, nothing_deployed, read_deployment

PATIENCE_S = 10.0
"""Of a server whose parent has ended, for requests under way."""


def main(
    config: ConfigOption,
    overrides: SetOption,
    root: RootOption = None,
    bundle: Annotated[str | None, typer.Option(metavar="URI", help="Model; default: the deployed one.")] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="URI", help="Its operating points; default: those beside it, once deployed.")
    ] = None,
    seal: Annotated[
        str | None, typer.Option(metavar="SHA256", help="Of the seal beside them; default: the deployed one's.")
    ] = None,
    model_version: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="In MLflow's registry, for answers; default: the deployed one's."),
    ] = None,
    while_stdin_is_open: Annotated[bool, typer.Option("--while-stdin-is-open", hidden=True)] = False,
) -> None:
    """Serve a model until the process is stopped.

    `rollback --config FILE` puts the model before the one in service back, `predict FOLDER --config FILE --out FILE`
    answers for the studies of a folder or a PACS without a server, `route SOURCE --state FOLDER` sends reports of what
    arrives to a PACS, `key FILE NAME` makes an API key, `sign --config FILE --key FILE` signs a model; each has its own
    --help.
    """
    if while_stdin_is_open:
        threading.Thread(target=_end_with_stdin, daemon=True).start()
    values = load_config(config, overrides)
    step = ServeConfig.parse(section(values, "serve"), where="serve")
    if bundle is None:
        where = open_root(values, root)
        current = _in_service(where, remedy="Run the pipeline, or pass --bundle.")
        storage, seal = where.at(current.bundle), seal or _seal(current, evaluation)
        model_version = model_version or current.model_version
    else:
        storage = open_storage(bundle)
    from components.serve.server import serve  # seconds of imports that a mistake in the command need not wait for

    points = None if evaluation is None else open_storage(evaluation)
    serve(storage, step, evaluation=points, seal=seal, model_version=model_version)


def rollback(config: ConfigOption, overrides: SetOption, root: RootOption = None) -> None:
    """Put the model before the one in service back, once its answers are evaluation's.

    Its operating points are those of then; `serve.target` says where, as for deploy.
    """
    values = load_config(config, overrides)
    step = ServeConfig.parse(section(values, "serve"), where="serve")
    where = open_root(values, root)
    _in_service(where, remedy="Run the pipeline.")
    from components.serve.rollback import rollback  # seconds, as above

    rollback(step, root=where)


def predict(
    config: ConfigOption,
    out: Annotated[str, typer.Option(metavar="FILE", help="Table to write, .parquet; gs:// too.", show_default=False)],
    overrides: SetOption,
    folder: Annotated[str | None, typer.Argument(metavar="FOLDER", help="Of studies, local or gs://.")] = None,
    pacs: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Configuration whose section data is a PACS (adapter: dicomweb), in place of FOLDER; "
            "--set data.FIELD=VALUE overrides it.",
        ),
    ] = None,
    root: RootOption = None,
    bundle: Annotated[str | None, typer.Option(metavar="URI", help="Model; default: the deployed one.")] = None,
    evaluation: Annotated[
        str | None, typer.Option(metavar="URI", help="Its operating points; default: those beside it, once deployed.")
    ] = None,
    num_processes: Annotated[int, typer.Option("--processes", min=1, help="Each with a model of its own.")] = 1,
    each_picture: Annotated[
        bool, typer.Option("--each-picture", help="Every PNG and JPEG is a study of its own, whatever its folder.")
    ] = False,
    table: Annotated[
        str | None, typer.Option(metavar="FILE", help="CSV of study, text, age_years and sex; gs:// too.")
    ] = None,
) -> None:
    """Answer for every study in a folder or in a PACS, as the server would, without one.

    DICOMs are grouped by StudyInstanceUID, PNGs and JPEGs by subfolder. Run it again to continue after a kill.
    Environment: CXRFLOW_PACS_USER and CXRFLOW_PACS_PASSWORD, or CXRFLOW_PACS_TOKEN, for a PACS.
    """
    terminate_cleanly()
    if (folder is None) == (pacs is None) or (pacs and each_picture):
        raise UserError(
            "bad-option",
            "the films are not clear",
            found="--each-picture with --pacs" if pacs and each_picture else "both" if pacs else "neither",
            expected="a FOLDER, with or without --each-picture, or --pacs FILE",
        )
    values = load_yaml(config)
    if pacs is not None:
        values["data"] = section(load_mapping(pacs, what="pacs"), "data")
    values = with_overrides(values, overrides)
    step = ServeConfig.parse(section(values, "serve"), where="serve")
    archive = None if pacs is None else Pacs.of(section(values, "data"), where="data")
    place, seal, version = bundle, None, None
    if place is None:
        where = open_root(values, root)
        current = _in_service(where, remedy="Run the pipeline, or pass --bundle.")
        place, seal, version = where.at(current.bundle).uri, _seal(current, evaluation), current.model_version
    from components.serve.predict import predict_studies  # seconds, as above
    from components.serve.predict_parts import Model
    from components.serve.studies import studies_in_folder, studies_in_pacs

    if archive is not None:
        find = partial(studies_in_pacs, archive)
    else:
        assert folder is not None
        films = open_storage(folder)
        find = partial(studies_in_folder, films, each_picture=each_picture, max_films=step.max_files)
    model = Model(place, evaluation, seal, version)
    predict_studies(step, model=model, find=find, out=out, num_processes=num_processes, table=table)


def route(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="URL of Orthanc, or a folder of DICOMs.", show_default=False)
    ],
    state: Annotated[Path, typer.Option(metavar="FOLDER", help="Where it keeps what it has done.", show_default=False)],
    server: Annotated[str, typer.Option(metavar="URL", help="A running cxrflow server.")] = "http://127.0.0.1:8000",
    to: Annotated[
        str | None,
        typer.Option(metavar="URL|FOLDER", help="DICOMweb root or folder for reports; default: SOURCE/dicom-web."),
    ] = None,
    fhir: Annotated[Path | None, typer.Option(metavar="FOLDER", help="FHIR reports too, as files.")] = None,
    num_parallel: Annotated[int, typer.Option("--at-most", min=1, max=64, help="Studies at a time.")] = 2,
    once: Annotated[bool, typer.Option("--once", help="End when nothing waits.")] = False,
    from_now: Annotated[bool, typer.Option("--from-now", help="At the first start, leave out what is there.")] = False,
    again: Annotated[
        list[str] | None,
        typer.Option(
            metavar="REASON", help="Studies or films without an answer for this reason wait again; repeatable."
        ),
    ] = None,
    settle_s: Annotated[
        float, typer.Option("--settle", min=0, help="Seconds without a change that make a study in a folder whole.")
    ] = 10.0,
    patience_s: Annotated[
        float, typer.Option("--patience", min=0, help="Seconds that the server or the PACS may be silent.")
    ] = 300.0,
    certificate: Annotated[str | None, typer.Option(metavar="FILE", help="The server's own, PEM.")] = None,
) -> None:
    """Answer each study that arrives, once, and send a structured report of it.

    Run it again to continue after a kill. Environment: CXRFLOW_API_KEY for the server; CXRFLOW_PACS_USER and
    CXRFLOW_PACS_PASSWORD, or CXRFLOW_PACS_TOKEN, for the PACS.
    """
    terminate_cleanly()
    from components.serve.route import route  # seconds, as above
    from components.serve.route_ends import open_ends
    from components.serve.route_state import RouteState

    ends = open_ends(
        source, server=server, to=to, fhir=fhir, from_now=from_now, settle_s=settle_s, certificate=certificate
    )
    with RouteState(state, source=ends.source.name) as kept:
        kept.again(again or ())
        route(ends, kept, num_parallel=num_parallel, once=once, patience_s=patience_s)


def key(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="serve.keys; made if it is not there.", show_default=False)
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, for the log.", show_default=False)],
) -> None:
    """Make an API key: its hash is added to FILE, the key itself is printed this once."""
    from components.serve.keys import add_key, new_key

    made = new_key()
    add_key(file, name, made)
    print(made)


def sign(
    config: ConfigOption,
    overrides: SetOption,
    key: Annotated[Path, typer.Option(metavar="FILE", help="Ed25519 private key in PEM, without a password.")],
    root: RootOption = None,
    bundle: Annotated[str | None, typer.Option(metavar="URI", help="Model; default: the newest.")] = None,
    evaluation: Annotated[str | None, typer.Option(metavar="URI", help="Its evaluation; default: the newest.")] = None,
) -> None:
    """Sign a model with its evaluation, which a server or a deployment with `serve.public_key` asks for.

    Writes `seal.sig` beside the report, and prints the public key.
    """
    where = open_root(load_config(config, overrides), root)
    bundle = bundle or read_pointer(where, "bundle", made_by="train")
    evaluation = evaluation or read_pointer(where, "evaluation", made_by="evaluate")
    from components.serve.signature import sign  # seconds, as above

    public = sign(open_storage(bundle), open_storage(evaluation), key=key)
    print(f"serve: signed {evaluation} by serve.public_key={public}")


def _in_service(root: Root, *, remedy: str) -> Deployment:
    current = read_deployment(root).deployment
    if current is None:
        raise nothing_deployed(root, remedy=remedy)
    return current


def _seal(current: Deployment, evaluation: str | None) -> str | None:
    """The deployed copy's; another evaluation of the model has a seal of its own."""
    return current.seal if evaluation is None else None


def _end_with_stdin() -> None:
    """End as by SIGTERM when the process that holds the other end of stdin is gone."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    threading.Event().wait(PATIENCE_S)
    os._exit(1)


_COMMANDS: dict[str, Callable[..., None]] = {
    "rollback": rollback,
    "predict": predict,
    "route": route,
    "key": key,
    "sign": sign,
}

if __name__ == "__main__":
    if len(sys.argv) > 1 and sys.argv[1] in _COMMANDS:
        command = sys.argv.pop(1)
        run_cli(_COMMANDS[command], command)
    run_cli(main)
