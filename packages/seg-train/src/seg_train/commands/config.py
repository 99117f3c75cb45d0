"""`seg config`: writes, shows and checks configs."""

import argparse
import functools
from pathlib import Path

from seg_core.command import Command
from seg_core.errors import ConfigError, UsageError, WrongTargetError
from seg_core.own_code import add_import_option, import_modules

__all__ = ["CONFIG"]

_MOST_SHOWN = 100  # problems of one config

_EPILOG = """\
examples:
  seg config init run.toml --root my_data                    looks at your images and masks first
  seg config init run.toml --model pidnet_s --data CityscapesClass
  seg config check run.toml
  seg config check theirs.toml --untrusted                   imports nothing; lists the places that name code
  seg config show run.toml -s optimizer.params.lr=0.002      all values, and where each is from
  seg config schema > config.schema.json                     for editors that check TOML files
"""


def _configure(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    init = actions.add_parser("init", help="write a config to start from")
    init.add_argument("file", nargs="?", default="run.toml", metavar="FILE", help="file to write (default: run.toml)")
    init.add_argument("--model", default="enet", metavar="NAME", help="a name from `seg models` (default: enet)")
    init.add_argument(
        "--data", default="FolderDataset", metavar="NAME", help="a name from `seg datasets` (default: FolderDataset)"
    )
    init.add_argument(
        "--root",
        metavar="DIR",
        help="folder of the dataset; for your own data it is looked at: layout, ids and sizes decide what is written",
    )
    add_import_option(init)
    for name, text in (
        ("show", "print all values of a config, and where each is from"),
        ("check", "report all mistakes; nothing is built"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("config", metavar="CONFIG", help="config of a run, a TOML file")
        action.add_argument(
            "-s",
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="override a key of the config; may be repeated",
        )
        add_import_option(action)
        if name == "check":
            action.add_argument(
                "--untrusted",
                action="store_true",
                help="import nothing that the config names, and list the places that name code: for a config of "
                "somebody else",
            )
    actions.add_parser("schema", help="print the JSON Schema of configs")


def _run(arguments: argparse.Namespace) -> int:
    from seg_train.config.check import with_known_loss
    from seg_train.config.json_schema import json_schema
    from seg_train.config.load import load_with_origins
    from seg_train.config.show import as_toml

    if arguments.action == "init":
        import_modules(arguments.imports)
        return _init(Path(arguments.file), arguments.model, arguments.data, arguments.root, arguments.imports)
    if arguments.action == "schema":
        import json

        print(json.dumps(json_schema(), indent=2))
    elif arguments.action == "check" and arguments.untrusted:
        return _check_untrusted(arguments.config, arguments.set, arguments.imports)
    else:
        try:
            config, origins = load_with_origins(arguments.config, arguments.set, arguments.imports)
        except ConfigError as error:
            if arguments.action == "show" or not Path(arguments.config).is_file():
                raise
            print(error)
            return 1
        if arguments.action == "show":
            config, origin = with_known_loss(config)
            if origin is not None:
                origins = {**origins, "criterion.name": origin}
            print(as_toml(config.to_dict(), origins), end="")
        else:
            print(f"{arguments.config}: no mistakes found")
            root = config.data.dataset.root
            if root is not None and not Path(root).expanduser().exists():
                # no mistake: a config may be written on another machine than it is run on
                print(f'note: data.dataset.root = "{root}" does not exist here (current folder: {Path.cwd()})')
    return 0


def _check_untrusted(config: str, overrides: list[str], imports: list[str]) -> int:
    from seg_core.errors import counted
    from seg_train.config.load import check_untrusted
    from seg_train.config.values import shown_value

    if imports:
        raise UsageError(f"--untrusted imports nothing; remove --import {imports[0]}")
    places, problems = check_untrusted(config, overrides)
    if places:
        print(f"{config} names code, which `seg train` imports and runs; read it before you do:")
        print("".join(f"  {key} = {shown_value(value)}\n" for key, value in places), end="")
    if problems:
        print(f"{config} has {counted(len(problems), 'problem')}:")
        print("".join(f"  {problem}\n" for problem in problems[:_MOST_SHOWN]), end="")
    if not places and not problems:
        print(f"{config}: names no code; no mistakes found")
    return 1 if places or problems else 0


def _init(path: Path, model: str, dataset: str, root: str | None, imports: list[str]) -> int:
    from seg_core.files.atomic import check_folder, write_text
    from seg_core.progress import make_progress
    from seg_core.registry import DATASETS, MODELS
    from seg_train.config.show import starting_config, toml_value

    if path.exists():
        raise WrongTargetError(f"{path} already exists; choose another name")
    check_folder(path.parent, f"FILE {path}")
    MODELS.entry(model)  # unknown names are told before a long look at the data
    DATASETS.entry(dataset)
    report = None
    if root is not None:
        inspect = getattr(DATASETS.get(dataset), "inspect", None)
        if inspect is not None:
            progress = make_progress()
            progress.message(f"looking at the images and masks in {root}")
            try:
                report = inspect(root, functools.partial(progress.part, "scanning"))
            finally:
                progress.close()
    if report is not None:
        print(report)
        if not report.fits and not getattr(report, "choices", {}):
            print(f"{path} was not written: correct what is odd, or name a dataset with --data")
            return 1
    text = starting_config(model, dataset, str(path), root, report)
    if imports:
        text = text.replace("[model]", f"imports = {toml_value(imports)}\n\n[model]", 1)
    write_text(path, text)
    choices = getattr(report, "choices", {})
    lines = " or ".join(f"params.{option} = {toml_value(value)}" for option, value in choices.items())
    what = f"decide about what is odd: uncomment {lines}, or add the files" if choices else "edit it"
    print(f"wrote {path}; {what}, then: seg config check {path}")
    return 0


CONFIG = Command(
    configure=_configure,
    run=_run,
    description="Writes, shows and checks configs of `seg train`.",
    epilog=_EPILOG,
)
